// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

// TestExamples: every example is a whole policy by itself, and its providers can be made
// as soon as its secrets are there. What the files may name is not on this machine.
func TestExamples(t *testing.T) {
	shown := map[string]bool{}
	for _, name := range examples(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			docs, faults := LoadPolicy([]PolicyPath{{Path: name}})
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			secretsFrom(t, docs.Objects)
			t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1") // as in a pod
			t.Setenv("KUBERNETES_SERVICE_PORT", "443")
			compiled, found := api.Compile(docs.Objects, api.Options{Roots: func(string) (*x509.CertPool, string, error) {
				return x509.NewCertPool(), "digest", nil
			}})
			if len(found) > 0 {
				t.Fatalf("%+v", found)
			}
			for i := range compiled.Credentials {
				shown[compiled.Credentials[i].Provider.Kind()] = true
			}
			specs, faults := Build(&Bundle{Compiled: compiled, Objects: docs.Objects}, BuildOptions{Dial: nowhere})
			for _, s := range specs {
				_ = s.Close()
			}
			if len(faults) > 0 {
				t.Error(faults)
			}
		})
	}
	kinds := reflect.TypeFor[api.Provider]()
	for i := range kinds.NumField() {
		if kind := jsonName(kinds.Field(i)); !shown[kind] {
			t.Errorf("no file in examples/credentials shows provider %q", kind)
		}
	}
}

// TestExamplesInAReview: `egret check` of an example alone finds no fault, although nothing
// that it names is on the machine.
func TestExamplesInAReview(t *testing.T) {
	for _, name := range examples(t) {
		node := Defaults()
		node.Certs.Issuer.Ephemeral = &Ephemeral{}
		node.Policy.Paths = []PolicyPath{{Path: name}}
		opt := loadOptions()
		opt.SecretsElsewhere = true
		if _, faults := Load(&node, opt); len(faults) > 0 {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

func examples(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, dir := range []string{"credentials", "destinations"} {
		found, err := filepath.Glob("../examples/" + dir + "/*.yaml")
		check(t, err)
		names = append(names, found...)
	}
	if len(names) < 2 {
		t.Fatalf("only %q found", names)
	}
	return names
}

// secretsFrom puts something where the examples say that their secrets and programs are.
func secretsFrom(t *testing.T, objects []api.Object) {
	t.Helper()
	dir := t.TempDir()
	for i := range objects {
		if objects[i].Credential == nil {
			continue
		}
		if x := objects[i].Credential.Spec.Provider.Exec; x != nil {
			put(t, dir, "program", "#!/bin/sh\n", 0o700)
			x.Command[0] = filepath.Join(dir, "program")
		}
		for _, s := range objects[i].Credential.Spec.Provider.Secrets() {
			if s.Source.File != "" {
				name := strings.TrimPrefix(strings.ReplaceAll(s.Source.File, "/", "-"), "-")
				put(t, dir, name, exampleSecret(t, s.Path), 0o600)
				s.Source.File = filepath.Join(dir, name)
			}
		}
		for _, f := range objects[i].Credential.Spec.Provider.Files() { // the others may come later, into folders that are there
			if *f != "" && !strings.HasPrefix(*f, dir) {
				*f = filepath.Join(dir, filepath.Base(*f))
			}
		}
	}
}

// exampleSecret is what fits a place: a private key where one must be.
func exampleSecret(t *testing.T, path string) string {
	t.Helper()
	if strings.HasSuffix(path, "rivateKey") || strings.HasSuffix(path, ".key") {
		return newRSAKey(t)
	}
	return "an-example"
}

func nowhere(string, []netip.Prefix) DialFunc {
	return func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
}

// TestProvidersAreKnown: every member of Provider is one that the rest can treat alike.
func TestProvidersAreKnown(t *testing.T) {
	kinds := reflect.TypeFor[api.Provider]()
	for i := range kinds.NumField() {
		p := api.Provider{}
		reflect.ValueOf(&p).Elem().Field(i).Set(reflect.New(kinds.Field(i).Type.Elem()))
		if got, want := p.Kind(), jsonName(kinds.Field(i)); got != want {
			t.Errorf("member %s is kind %q", want, got)
		}
		for _, s := range p.Secrets() {
			if !strings.HasPrefix(s.Path, "spec.provider."+p.Kind()+".") {
				t.Errorf("%s: secret at %s", p.Kind(), s.Path)
			}
		}
	}
}

// newRSAKey makes a private key, as Google, GitHub, Salesforce and Snowflake want one.
func newRSAKey(t *testing.T) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
