// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package kube

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/kubernetes"
)

// TestKube starts one API server for all: it takes some seconds.
func TestKube(t *testing.T) {
	w := newWorld(t)
	w.namespace("egret", "egret")
	w.namespace("shop", "web", "robot", "other")
	w.do(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", named("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "egret-reviews", object{
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
		"subjects": []any{object{"kind": "ServiceAccount", "namespace": "egret", "name": "egret"}},
	}))
	// Exactly what the reference and the examples say that egret needs.
	w.allow("shop", "egret-credentials", "egret/egret",
		object{"apiGroups": []string{""}, "resources": []string{"secrets"}, "resourceNames": []string{"db"}, "verbs": []string{"list", "watch"}},
		object{"apiGroups": []string{""}, "resources": []string{"serviceaccounts/token"}, "resourceNames": []string{"robot", "gone"}, "verbs": []string{"create"}},
	)
	own := w.token("egret", "egret", "egret-0", w.pod("egret", "egret-0", "egret"), ownAudience)
	for _, part := range []struct {
		name string
		test func(*testing.T, *world, string)
	}{
		{"refusals", refusals}, {"secret is followed", secretFollowed}, {"secret is refused", secretRefused},
		{"token is minted", tokenMinted}, {"egret run", egretRun},
		{"secret and a server that hangs", secretHangs}, {"secret survives a restart", secretRestart},
	} {
		t.Run(part.name, func(t *testing.T) {
			in := *w
			in.t = t
			part.test(t, &in, own)
			w.server = in.server
		})
	}
}

// refusals: what the twin of the unit tests refuses, the real one refuses, in the same way.
func refusals(t *testing.T, w *world, own string) {
	const shop = "/api/v1/namespaces/shop"
	uid := w.pod("shop", "web-refusals", "web")
	request := func(change func(spec object)) object {
		spec := object{"audiences": []string{"x"}, "expirationSeconds": 600}
		if change != nil {
			change(spec)
		}
		return object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
	}
	bound := func(kind, name, uid string) func(object) {
		return func(s object) {
			s["boundObjectRef"] = object{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}
		}
	}
	for name, tc := range map[string]struct {
		token, method, path string
		body                object
		want                int
	}{
		"no token of its own":           {"nonsense", "GET", shop + "/secrets?fieldSelector=metadata.name%3Ddb", nil, 401},
		"list of the named Secret":      {own, "GET", shop + "/secrets?fieldSelector=metadata.name%3Ddb", nil, 200},
		"list of all":                   {own, "GET", shop + "/secrets", nil, 403},
		"list of another":               {own, "GET", shop + "/secrets?fieldSelector=metadata.name%3Dother", nil, 403},
		"get":                           {own, "GET", shop + "/secrets/db", nil, 403},
		"watch without a number":        {own, "GET", shop + "/secrets?fieldSelector=metadata.name%3Ddb&watch=true&resourceVersion=x&timeoutSeconds=1", nil, 500},
		"mint":                          {own, "POST", shop + "/serviceaccounts/robot/token", request(nil), 201},
		"mint for another account":      {own, "POST", shop + "/serviceaccounts/web/token", request(nil), 403},
		"mint for an account not there": {own, "POST", shop + "/serviceaccounts/gone/token", request(nil), 404},
		"mint a short one":              {own, "POST", shop + "/serviceaccounts/robot/token", request(func(s object) { s["expirationSeconds"] = 599 }), 422},
		"mint another kind":             {own, "POST", shop + "/serviceaccounts/robot/token", object{"apiVersion": "v1", "kind": "Secret"}, 400},
		"bound to another's pod":        {own, "POST", shop + "/serviceaccounts/robot/token", request(bound("Pod", "web-refusals", uid)), 400},
		"bound to no such pod":          {own, "POST", shop + "/serviceaccounts/robot/token", request(bound("Pod", "none", "")), 404},
		"bound to a Deployment":         {own, "POST", shop + "/serviceaccounts/robot/token", request(bound("Deployment", "none", "")), 400},
	} {
		if code, o := w.try(tc.token, tc.method, tc.path, tc.body); code != tc.want {
			t.Errorf("%s: %d %v, want %d", name, code, o["message"], tc.want)
		}
	}
	mine := w.pod("shop", "robot-refusals", "robot")
	for uid, want := range map[string]int{mine: 201, "another": 409} {
		if code, o := w.try(own, "POST", shop+"/serviceaccounts/robot/token", request(bound("Pod", "robot-refusals", uid))); code != want {
			t.Errorf("bound by uid %q: %d %v, want %d", uid, code, o["message"], want)
		}
	}
}

// follow starts a provider of the Secret db.
func (w *world) follow(token string, change func(*kubernetes.SecretConfig)) *kubernetes.Secret {
	w.t.Helper()
	c := kubernetes.SecretConfig{Cluster: w.cluster("follow", token), Namespace: "shop", Name: "db", Key: "password"}
	if change != nil {
		change(&c)
	}
	s, err := kubernetes.NewSecret(c)
	w.must(err)
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

func get(t *testing.T, p credential.Provider) (string, error) {
	t.Helper()
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	return tok.Values["token"].Reveal(), err
}

func wantKind(t *testing.T, err error, k credential.Kind) {
	t.Helper()
	if e, ok := errors.AsType[*credential.Error](err); !ok || e.Kind != k {
		t.Fatalf("err = %v, want %s", err, k)
	}
}

// told waits for the provider's word that its value is another.
func told(t *testing.T, s *kubernetes.Secret) time.Duration {
	t.Helper()
	begun := time.Now()
	select {
	case <-s.Changes():
	case <-time.After(60 * time.Second):
		t.Fatal("not told within 60 s")
	}
	return time.Since(begun).Round(time.Millisecond)
}

func secretFollowed(t *testing.T, w *world, own string) {
	w.secret("shop", "db", map[string]string{"password": "zero\n", "user": "svc"})
	s := w.follow(own, func(c *kubernetes.SecretConfig) { c.UsernameKey = "user" })
	tok, err := s.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || tok.Values["token"].Reveal() != "zero" || tok.Values["username"].Reveal() != "svc" {
		t.Fatalf("%v", err)
	}
	for n := range 20 {
		want, begun := fmt.Sprint("value", n), time.Now()
		w.secret("shop", "db", map[string]string{"password": want, "user": "svc"})
		told(t, s)
		if got, err := get(t, s); got != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
		if n == 10 {
			t.Logf("changed, told and served within %s", time.Since(begun).Round(time.Millisecond))
		}
	}
	w.remove("/api/v1/namespaces/shop/secrets/db")
	told(t, s)
	_, err = get(t, s)
	wantKind(t, err, credential.NotMinted)
	w.secret("shop", "db", map[string]string{"password": "again", "user": "svc"})
	told(t, s)
	if got, err := get(t, s); got != "again" {
		t.Errorf("%q, %v", got, err)
	}
}

func secretRefused(t *testing.T, w *world, own string) {
	w.secret("shop", "other", map[string]string{"password": "not yours"})
	_, err := get(t, w.follow(own, func(c *kubernetes.SecretConfig) { c.Name = "other" }))
	wantKind(t, err, credential.Refused)
	if !strings.Contains(err.Error(), "bind it to a Role") || strings.Contains(err.Error(), "system:serviceaccount") {
		t.Errorf("%v", err)
	}
	_, err = get(t, w.follow("nonsense", nil))
	wantKind(t, err, credential.Refused)
	_, err = get(t, w.follow(own, func(c *kubernetes.SecretConfig) { c.Key = "none" }))
	wantKind(t, err, credential.NotMinted)
}

// secretHangs: a watch on which nothing comes any more does not count as followed.
func secretHangs(t *testing.T, w *world, own string) {
	w.secret("shop", "db", map[string]string{"password": "before"})
	s := w.follow(own, nil)
	w.await("the value", func() bool { got, _ := get(t, s); return got == "before" })
	time.Sleep(time.Second) // for the watch to be open
	w.must(w.server.Process.Signal(syscall.SIGSTOP))
	begun := time.Now()
	w.await("nothing old", func() bool { _, err := get(t, s); return err != nil })
	_, err := get(t, s)
	took := time.Since(begun).Round(time.Second)
	w.must(w.server.Process.Signal(syscall.SIGCONT))
	wantKind(t, err, credential.Unreachable)
	if t.Logf("a server that hangs is noticed after %s", took); took > 45*time.Second {
		t.Errorf("noticed after %s", took)
	}
	w.await("the value again", func() bool { got, _ := get(t, s); return got == "before" })
}

// secretRestart: the server goes away and comes back with a history that begins anew, so
// that the version to watch from is gone (410).
func secretRestart(t *testing.T, w *world, own string) {
	w.secret("shop", "db", map[string]string{"password": "before"})
	s := w.follow(own, nil)
	w.await("the value", func() bool { got, _ := get(t, s); return got == "before" })
	time.Sleep(time.Second) // for the watch to be open
	w.stop(&w.server)
	w.await("nothing old", func() bool { _, err := get(t, s); return err != nil })
	_, err := get(t, s)
	wantKind(t, err, credential.Unreachable)
	w.startServer()
	if got := w.watched("1"); got != http.StatusGone {
		t.Errorf("a watch from a version of long ago: %d", got)
	}
	w.secret("shop", "db", map[string]string{"password": "after"})
	begun := time.Now()
	w.await("the new value", func() bool { got, _ := get(t, s); return got == "after" })
	t.Logf("the new value is served %s after its change", time.Since(begun).Round(time.Millisecond))
	time.Sleep(2 * time.Second)
	for len(s.Changes()) > 0 {
		<-s.Changes()
	}
	w.secret("shop", "db", map[string]string{"password": "followed"})
	t.Logf("followed again, told after %s", told(t, s))
}

// watched returns the status of a watch from a version, wherever the server puts it.
func (w *world) watched(version string) int {
	w.t.Helper()
	code, o := w.try(admin, http.MethodGet, "/api/v1/namespaces/shop/secrets?watch=true&timeoutSeconds=1&resourceVersion="+version, nil)
	if status, ok := o["object"].(object); ok && o["type"] == "ERROR" {
		if inner, ok := status["code"].(float64); ok {
			code = int(inner)
		}
	}
	return code
}

func tokenMinted(t *testing.T, w *world, own string) {
	uid := w.pod("shop", "robot-0", "robot")
	mint := func(change func(*kubernetes.TokenConfig)) (credential.Token, error) {
		c := kubernetes.TokenConfig{
			Cluster: w.cluster("mint", own), Namespace: "shop", ServiceAccount: "robot",
			Audiences: []string{"https://db.example", "https://b.example"}, Expiration: 10 * time.Minute,
		}
		if change != nil {
			change(&c)
		}
		m, err := kubernetes.NewToken(c)
		w.must(err)
		t.Cleanup(func() { _ = m.Close() })
		return m.Fetch(t.Context(), credential.Key{}, nil)
	}
	tok, err := mint(func(c *kubernetes.TokenConfig) { c.Bound = &kubernetes.Bound{Kind: "Pod", Name: "robot-0", UID: uid} })
	if err != nil || tok.Lifetime < 9*time.Minute || tok.Lifetime > 11*time.Minute {
		t.Fatalf("%s, %v", tok.Lifetime, err)
	}
	if user, ok := w.review(tok.Values["token"].Reveal(), "https://b.example"); !ok || user != "system:serviceaccount:shop:robot" {
		t.Errorf("reviewed as %q, %t", user, ok)
	}
	if _, ok := w.review(tok.Values["token"].Reveal(), ownAudience); ok {
		t.Error("it opens the API server")
	}
	w.remove("/api/v1/namespaces/shop/pods/robot-0")
	w.await("the token to end with its pod", func() bool {
		_, ok := w.review(tok.Values["token"].Reveal(), "https://b.example")
		return !ok
	})
	_, err = mint(func(c *kubernetes.TokenConfig) { c.Bound = &kubernetes.Bound{Kind: "Pod", Name: "robot-0", UID: uid} })
	wantKind(t, err, credential.NotMinted)
	_, err = mint(func(c *kubernetes.TokenConfig) { c.ServiceAccount = "other" })
	wantKind(t, err, credential.Refused)
	_, err = mint(func(c *kubernetes.TokenConfig) { c.ServiceAccount = "gone" })
	wantKind(t, err, credential.NotMinted)
}

// review asks as admin whose a token is.
func (w *world) review(token, audience string) (user string, ok bool) {
	w.t.Helper()
	o := w.do(http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", object{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
		"spec": object{"token": token, "audiences": []string{audience}},
	})
	status := o["status"].(object)
	if ok, _ = status["authenticated"].(bool); !ok {
		return "", false
	}
	return status["user"].(object)["username"].(string), true
}
