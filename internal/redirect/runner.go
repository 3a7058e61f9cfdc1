// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// programs runs what is installed on the machine.
type programs struct{ folders []string }

// NewRunner returns a Runner that takes programs from the system's folders only, whatever
// PATH says: it runs with privileges.
func NewRunner() Runner {
	return &programs{folders: []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"}}
}

// runTime bounds one call, the wait for another user of xtables included.
const runTime = 30 * time.Second

// Run implements Runner.
func (p *programs) Run(ctx context.Context, input, program string, args ...string) (string, error) {
	path, err := p.find(program)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + strings.Join(p.folders, ":")}
	cmd.Stdin = strings.NewReader(input)
	out, complaint := &bounded{most: maxOutput}, &bounded{most: maxComplaint}
	cmd.Stdout, cmd.Stderr = out, complaint
	err = cmd.Run()
	if out.over {
		return "", fmt.Errorf("%s: it prints more than %d MiB: a ruleset of that size cannot be looked at", program, maxOutput>>20)
	}
	if err != nil {
		return "", programError(program, complaint.String(), err)
	}
	return out.String(), nil
}

// What is kept of a program's output. A node of many thousand services has rules of 50 MiB.
const (
	maxOutput    = 256 << 20
	maxComplaint = 64 << 10
)

// bounded keeps the first bytes, and reports whether there were more.
type bounded struct {
	bytes.Buffer
	most int
	over bool
}

// Write implements io.Writer. It takes everything, so that the program ends.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.most - b.Len()
	if b.over = b.over || len(p) > room; b.over {
		b.Buffer.Write(p[:min(len(p), room)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

func (p *programs) find(program string) (string, error) {
	for _, folder := range p.folders {
		if path, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s %w: apt-get install %s", program, ErrMissing, packageOf(program))
}

func packageOf(program string) string {
	switch program {
	case "nft":
		return "nftables"
	case "ip":
		return "iproute2"
	}
	return "iptables"
}

// programError says what the program said, and what it means.
func programError(program, complaint string, err error) error {
	said := strings.Join(strings.Fields(complaint), " ")
	switch lower := strings.ToLower(said); {
	case strings.Contains(lower, "permission denied"), strings.Contains(lower, "not permitted"), strings.Contains(lower, "must be root"):
		return fmt.Errorf("%s: %w: %q", program, ErrPrivilege, clip(said))
	case said != "":
		return fmt.Errorf("%s: %q", program, clip(said))
	}
	return fmt.Errorf("%s: %w", program, err)
}

// ErrPrivilege: rules of a network namespace are changed with CAP_NET_ADMIN only.
var ErrPrivilege = errors.New("it needs CAP_NET_ADMIN in this network namespace (iptables-legacy CAP_NET_RAW too): run it as root, or in a container that adds the capability")
