// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestTreeSeesWhatAProcessForks: the shell sleeps while its grandchild works.
func TestTreeSeesWhatAProcessForks(t *testing.T) {
	cmd := exec.Command("sh", "-c", `exec 3<&0; sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; read x <&3' & wait`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "done" {
		t.Fatal(line, err)
	}
	own, err := ProcessCPU(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := TreeCPU(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Since(tree, nil)
	if err != nil || len(tree) < 2 || all < own+5*time.Millisecond {
		t.Errorf("the process used %v, %d processes of its tree %v, %v", own, len(tree), all, err)
	}
	alone, err := Resident(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := TreeMemory(cmd.Process.Pid); err != nil || m <= alone || alone <= 0 {
		t.Errorf("the process has %d bytes, its tree %d, %v", alone, m, err)
	}
	for _, f := range []func(int) error{func(p int) error { _, err := TreeCPU(p); return err }, func(p int) error { _, err := TreeMemory(p); return err }} {
		if f(1<<28) == nil {
			t.Error("a process that does not exist has a tree")
		}
	}
}
