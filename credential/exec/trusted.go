// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package exec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/egret-proxy/egret/internal/durable"
)

// maxLinks is how many symbolic links may be on the way, as in Linux.
const maxLinks = 40

// trusted returns the real path of a program that nobody but root and egret's own user can
// change or replace: it, and every folder and symbolic link on the way to it. Who can do
// that gets egret's rights, and every credential that it holds.
func trusted(path string) (string, error) {
	w := walk{at: "/", rest: parts(path)}
	for len(w.rest) > 0 {
		if err := w.step(); err != nil {
			return "", fmt.Errorf("program %q: %w", path, err)
		}
	}
	st, err := os.Lstat(w.at)
	if err != nil {
		return "", fmt.Errorf("program %q: %w", path, durable.Unpath(err))
	}
	switch mode := st.Mode(); {
	case !mode.IsRegular():
		err = errors.New("must be a regular file")
	case mode.Perm()&0o111 == 0:
		err = errors.New("must be executable: chmod +x")
	case mode.Perm()&0o022 != 0:
		err = fmt.Errorf("has mode %s, others than its owner must not be able to write to it: chmod go-w", mode.Perm())
	case !ours(st):
		err = errors.New("must be owned by root or by egret's own user")
	}
	if err != nil {
		return "", fmt.Errorf("program %q %w", path, err)
	}
	return w.at, nil
}

// walk follows a path as the kernel does, one name after the other.
type walk struct {
	at    string   // resolved, and looked at but for its last part
	rest  []string // names that are still to follow
	links int
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}

// step enters one folder, follows one link, or arrives.
func (w *walk) step() error {
	if err := checkFolder(w.at); err != nil {
		return err
	}
	name := w.rest[0]
	w.rest = w.rest[1:]
	next := filepath.Join(w.at, name) // of "..", the folder above, since at has no links
	st, err := os.Lstat(next)
	if err != nil {
		return fmt.Errorf("%q: %w", next, durable.Unpath(err))
	}
	if err := checkEntry(w.at, st); err != nil {
		return err
	}
	if st.Mode()&fs.ModeSymlink == 0 {
		w.at = next
		return nil
	}
	if !ours(st) {
		return fmt.Errorf("link %q must be owned by root or by egret's own user", next)
	}
	if w.links++; w.links > maxLinks {
		return fmt.Errorf("link %q: too many links", next)
	}
	target, err := os.Readlink(next)
	if err != nil {
		return fmt.Errorf("link %q: %w", next, durable.Unpath(err))
	}
	if filepath.IsAbs(target) {
		w.at = "/"
	}
	w.rest = append(parts(target), w.rest...)
	return nil
}

// checkEntry refuses files and links that stand in a folder with the sticky bit that others
// can write to (/tmp). They cannot replace what is ours there, but with a hard link they can
// put any file of ours under its name, before it is there or after it has gone. Of folders
// there are no hard links.
func checkEntry(dir string, entry fs.FileInfo) error {
	if entry.IsDir() {
		return nil
	}
	st, err := os.Lstat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("folder %q: %w", dir, durable.Unpath(err))
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("folder %q has mode %s, others can put files into it: keep the program in a folder of its own, mode 0755 at most", dir, st.Mode().Perm())
	}
	return nil
}

// checkFolder looks at one folder. In one with the sticky bit others can make files, and
// can neither replace nor make our folders.
func checkFolder(dir string) error {
	st, err := os.Lstat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("folder %q: %w", dir, durable.Unpath(err))
	case !st.IsDir():
		return fmt.Errorf("%q must be a folder", dir)
	case st.Mode().Perm()&0o022 != 0 && st.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("folder %q has mode %s, others than its owner could replace what is in it: chmod go-w", dir, st.Mode().Perm())
	case !ours(st):
		return fmt.Errorf("folder %q must be owned by root or by egret's own user", dir)
	}
	return nil
}

func ours(st os.FileInfo) bool {
	s, ok := st.Sys().(*syscall.Stat_t)
	return ok && (s.Uid == 0 || int(s.Uid) == os.Geteuid())
}
