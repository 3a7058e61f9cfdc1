// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"runtime"
	"testing"
)

func TestResident(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("read on Linux only")
	}
	before, err := Resident(os.Getpid())
	if err != nil || before < 1<<20 {
		t.Fatalf("%d bytes, %v", before, err)
	}
	b := make([]byte, 64<<20)
	for i := range b {
		b[i] = 1
	}
	after, err := Resident(os.Getpid())
	runtime.KeepAlive(b)
	if err != nil || after-before < 48<<20 {
		t.Errorf("64 MiB more are %d bytes more, %v", after-before, err)
	}
	if _, err := Resident(1 << 28); err == nil {
		t.Error("a process that does not exist has memory")
	}
}
