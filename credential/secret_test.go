// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-proxy/egret/internal/secret"
)

const hush = "xoxb-hush-hush"

// printed is v in every form in which the standard library turns values into text.
func printed(v any) string {
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	j, err := json.Marshal(v)
	fmt.Fprintf(&b, "%s %v\n", j, err)
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("x", "v", v)
	}
	return b.String()
}

func TestMUST_C9_NothingPrintsTheSecret(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var all bytes.Buffer
	p := &issuer{value: func(Key, int) string { return hush }}
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := newCache(t, CacheOptions{Logger: logger, Registerer: prometheus.NewRegistry()}, specWith(t, p))
	v := get(t, c, keyOf(alice))
	c.Invalidate(keyOf(alice), v.Fingerprint())
	p.set(func(p *issuer) { p.value = func(Key, int) string { return hush + "\r\n" } })
	e := getError(t, c, keyOf(alice), NotMinted)
	tok := Token{Values: map[string]secret.Secret{"token": secret.New(hush)}, Certificate: &tls.Certificate{PrivateKey: key}}
	query, _ := NewInjection(InjectionConfig{Query: "key", Hosts: []string{"q.example"}})
	basic, _ := NewInjection(InjectionConfig{Basic: "u"})
	live, err := New(tok, []Injection{query, basic}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	for _, x := range []any{v, e, tok, &tok, live, *live, specWith(t, p), basic, keyOf(alice), c.store.entries[keyOf(alice)], &Error{Err: errors.New("x")}} {
		all.WriteString(printed(x))
	}
	c.mu.Unlock()
	all.WriteString(printed(c.Snapshot()))
	c.Close()
	all.Write(log.Bytes())
	for _, leak := range []string{
		hush, base64.StdEncoding.EncodeToString([]byte("u:" + hush)), fmt.Sprintf("%x", hush), fmt.Sprintf("%v", []byte(hush)),
		base64.StdEncoding.EncodeToString(private), fmt.Sprintf("%x", private), key.D.String(), //nolint:staticcheck // the number as text is what must not leak
	} {
		if i := strings.Index(all.String(), leak); i >= 0 {
			t.Errorf("leaked near %q", all.String()[max(0, i-80):min(all.Len(), i+40)])
		}
	}
}

func TestMUST_C9_ThisTestCanFail(t *testing.T) {
	if !strings.Contains(printed(struct{ a string }{hush}), hush) {
		t.Error("the printer does not show an unexported string")
	}
}
