// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/jwt"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/policy"
)

const partnerAudience = "https://api.partner.example"

// partner keeps what it was shown.
type partner struct {
	mu    sync.Mutex
	shown []string
}

func (p *partner) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = append(p.shown, r.Header.Values("Authorization")...)
	p.shown = append(p.shown, r.Header.Values("Proxy-Authorization")...)
}

// partnerWorld is a world in which the workload's own JWT-SVID is the credential of a
// partner, at the host of the echo twin.
func partnerWorld(t *testing.T) (*world, *partner) {
	t.Helper()
	seen := &partner{}
	w := newWorld(t, func(c *worldConfig) {
		c.hosts = []saas.Host{{Name: echoHost, Handler: seen}}
		c.policy = func(s *policy.Set) {
			for _, r := range s.Rules {
				r.Credential = &policy.Credential{Name: "partner-svid", Generation: "1", Audience: partnerAudience}
			}
		}
	})
	in := must(credential.NewInjection(credential.InjectionConfig{Header: "Authorization", Value: "Bearer {token}"}))(t)
	w.cache.Install([]credential.Spec{{
		Name: "partner-svid", Generation: "1", Provider: must(jwt.New(jwt.Config{Audience: partnerAudience}))(t), Inject: []credential.Injection{in},
	}})
	return w, seen
}

func TestThePartnerIsShownAnSVIDOfItsOwn(t *testing.T) {
	w, seen := partnerWorld(t)
	if resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/v1/orders"); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	if len(seen.shown) != 1 {
		t.Fatalf("%d headers shown", len(seen.shown))
	}
	got, err := jwtsvid.ParseAndValidate(strings.TrimPrefix(seen.shown[0], "Bearer "), w.issuer.Bundles(), []string{partnerAudience})
	if err != nil || got.ID.String() != jobID || len(got.Audience) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What a caller has shown to egret is egret's alone: where egret holds no other proof of
// the caller, the partner is shown nothing.
func TestMUST_I10_TheTokenForEgretGoesNoFurther(t *testing.T) {
	w, seen := partnerWorld(t)
	for name, c := range map[string]*http.Client{"jwt": w.jwtClient(jobID, "egret", time.Minute), "mesh": w.meshClient(w.svid(jobID, time.Hour))} {
		resp, text := w.get(c, "https://"+echoHost+"/v1/orders")
		if p := problemOf(t, text); resp.StatusCode != 503 || p.Layer != "credential" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
	}
	if len(seen.shown) != 0 {
		t.Error("the partner was shown a token")
	}
}
