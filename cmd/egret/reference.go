// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/egret-proxy/egret/cmd/egret/internal/reference"

// writeReference writes the pages of the reference into dir. It reads doc comments, so it
// works only inside the source tree.
func writeReference(dir string) error {
	source, err := reference.FindSource(".")
	if err != nil {
		return err
	}
	return reference.Write(dir, reference.Options{Root: newRootCommand(), Source: source})
}
