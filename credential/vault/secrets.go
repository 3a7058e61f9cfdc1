// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// readKV reads a secret that has no lease, and keeps no client token for it.
func (p *Provider) readKV(ctx context.Context, s credential.Subject) (credential.Token, error) {
	ses, err := p.login(ctx, s)
	if err != nil {
		return credential.Token{}, err
	}
	defer p.drop(ctx, ses)
	kv := p.cfg.KV
	path := kv.Mount + "/data/" + kv.Path
	r := request{method: http.MethodGet, path: path, token: ses.token}
	if kv.Version > 0 {
		r.path += "?version=" + strconv.Itoa(kv.Version)
	}
	what := fmt.Sprintf("reading %q", path)
	_, o, err := p.ask(ctx, r, what, "the policies of the role must allow read there")
	if err != nil {
		return credential.Token{}, err
	}
	data, ok := version2(o.Object("data"))
	if !ok {
		return credential.Token{}, issuer.NotMinted("%s: answer is not that of a KV version 2 engine", what)
	}
	values, err := pick(data, p.cfg.Keys)
	if err != nil {
		return credential.Token{}, issuer.Within(what, err)
	}
	return plain(values), nil
}

// version2 returns the secret within the data of an answer of KV version 2.
func version2(data issuer.Object) (issuer.Object, bool) {
	in := data.Object("data")
	return in, in != nil && data.Object("metadata") != nil
}

// lease is the right to a dynamic secret for a time.
type lease struct {
	id        string
	ends      time.Time // zero: not told
	granted   time.Duration
	renewable bool
}

// readDynamic makes a secret. Some engines tell a duration without a lease (KV version 1
// tells 32 days), which means nothing.
func (p *Provider) readDynamic(ctx context.Context, ses session) (map[string]secret.Secret, lease, error) {
	d := p.cfg.Dynamic
	what := fmt.Sprintf("reading %q", d.Path)
	r := request{method: http.MethodGet, path: d.Path, token: ses.token}
	if len(d.Parameters) > 0 {
		r.method, r.body = http.MethodPost, map[string]any{}
		for k, v := range d.Parameters {
			r.body[k] = v
		}
	}
	sent := time.Now()
	a, o, err := p.ask(ctx, r, what, "the policies of the role must allow it, and the engine must take the parameters")
	if err != nil {
		return nil, lease{}, err
	}
	l := lease{id: o.Text("lease_id"), renewable: o.Bool("renewable")}
	if l.granted = told(a, o); l.granted > 0 {
		l.ends = sent.Add(l.granted)
	}
	values, err := pick(o.Object("data"), p.cfg.Keys)
	if err != nil {
		err = issuer.Within(what, err)
	}
	return values, l, err // the lease also where the values are not usable: it must be ended
}

// renewLease asks for as long as was granted before, from now.
func (p *Provider) renewLease(ctx context.Context, ses session, l lease) (lease, error) {
	const what = "renewing the lease"
	if !l.renewable {
		return l, fail(credential.NotMinted, "%s: it is not renewable", what)
	}
	sent := time.Now()
	r := request{method: http.MethodPost, path: "sys/leases/renew", token: ses.token, body: map[string]any{
		"lease_id": l.id, "increment": seconds(l.granted),
	}}
	a, o, err := p.ask(ctx, r, what, "it is over, or the policies of the role do not allow sys/leases/renew")
	if err != nil {
		return l, err
	}
	got := told(a, o)
	if short(got, l.granted) {
		return l, fail(credential.NotMinted, "%s: less was given than asked", what)
	}
	l.ends, l.renewable = sent.Add(got), o.Bool("renewable")
	return l, nil
}

func (p *Provider) revokeLease(ctx context.Context, ses session, l lease) error {
	r := request{method: http.MethodPost, path: "sys/leases/revoke", token: ses.token, body: map[string]any{"lease_id": l.id, "sync": true}}
	return p.tell(ctx, r, "revoking the lease", "it is over, or the policies of the role do not allow sys/leases/revoke")
}

// pick takes the values out of a secret: texts as they are, numbers as they are written.
func pick(data issuer.Object, keys map[string]string) (map[string]secret.Secret, error) {
	values := make(map[string]secret.Secret, len(keys))
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		key := keys[name]
		text := data.Text(key)
		if raw := data[key]; len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') {
			text = string(raw)
		}
		if text == "" {
			return nil, issuer.NotMinted("the secret has no text at key %q", key)
		}
		values[name] = secret.New(text)
	}
	return values, nil
}
