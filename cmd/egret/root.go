// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/internal/escape"
)

// Exit codes besides those of a program that exec ran.
const (
	exitOK     = 0
	exitFailed = 1 // it did not work, or faults were found
	exitUsage  = 2 // the command line is not understood
	exitDenied = 3 // why: the request is denied
)

// run is the whole program: arguments in, exit code out.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	understood := false
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	err := root.ExecuteContext(ctx)
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.ExitCode()
	case !understood:
		tell(stderr, err)
		_, _ = fmt.Fprintln(stderr, "see: egret --help")
		return exitUsage
	}
	tell(stderr, err)
	return exitFailed
}

// tell prints an error for a person. It may quote hostile text.
func tell(w io.Writer, err error) {
	var faults config.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			_, _ = fmt.Fprintln(w, escape.Terminal(f.Error()))
		}
		_, _ = fmt.Fprintf(w, "egret: %s\n", count(len(faults), "fault"))
		return
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		_, _ = fmt.Fprintln(w, "egret: "+escape.Terminal(line))
	}
}

// count writes "1 fault", "2 faults".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if base, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, base)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func newRootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "egret",
		Short: "Give workloads access to SaaS APIs without ever giving them a secret",
		Long: `egret is an egress proxy that injects credentials.

A workload calls https://slack.com with no token at all. egret intercepts the
connection to that allow-listed host, finds out which workload is calling from its
SPIFFE identity, asks policy about the request, puts in a short-lived credential,
sends it over verified TLS, and writes down what it did.

Exit codes: 0 done, 1 it failed or faults were found, 2 the command line is wrong,
3 (why) the request is denied; exec exits as its program does.`,
		Example: `  egret demo                                  the whole story on this machine
  egret check policy/                         every fault at once
  egret run -c egret.yaml                     the proxy
  egret why --as spiffe://acme.example/ns/qa/sa/dashboard POST https://slack.com/api/chat.postMessage`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		newDemoCommand(), newRunCommand(), newCheckCommand(), newExecWithStart(), newWhyCommand(), newPolicyCommand(),
		newReloadCommand(), newCACommand(), newVersionCommand(), newDocsCommand(),
	)
	cmd.CompletionOptions.HiddenDefaultCmd = false
	return cmd
}
