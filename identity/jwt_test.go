// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/secret"
)

func newJWT(t testing.TB, i *embedded.Issuer) *JWT {
	t.Helper()
	j, err := NewJWT(JWTOptions{Bundles: i.Bundles(), TrustDomains: ourTDs, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// forge signs tokens that no issuer would.
type forge struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	kid string
}

func newForge(t *testing.T, kid string) forge {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return forge{t, key, kid}
}

type object = map[string]any

// claims of a good token, with changes; a nil value deletes.
func claims(changes object) object {
	now := time.Now().Unix()
	c := object{"sub": app.String(), "aud": audience, "iat": now, "exp": now + 300}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (f forge) sign(c object, header object) secret.Secret {
	payload, err := json.Marshal(c)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.signRaw(payload, header)
}

func (f forge) signRaw(payload []byte, header object) secret.Secret {
	f.t.Helper()
	alg, key := jose.ES256, any(f.key)
	if a, ok := header["alg"].(jose.SignatureAlgorithm); ok {
		alg, key = a, header["key"]
	}
	o := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	if f.kid != "" {
		o.ExtraHeaders["kid"] = f.kid
	}
	for k, v := range header {
		if k != "alg" && k != "key" {
			o.ExtraHeaders[jose.HeaderKey(k)] = v
		}
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		f.t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return secret.New(token)
}

// unsigned is alg none, in a spelling that jose cannot be asked for.
func unsigned(t *testing.T, alg string, c object) secret.Secret {
	t.Helper()
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	e := base64.RawURLEncoding.EncodeToString
	return secret.New(e(fmt.Appendf(nil, `{"alg":%q,"kid":"k1","typ":"JWT"}`, alg)) + "." + e(payload) + ".")
}

func (f forge) bundle(of spiffeid.TrustDomain) *jwtbundle.Bundle {
	return jwtbundle.FromJWTAuthorities(of, map[string]crypto.PublicKey{f.kid: f.key.Public()})
}

// TestMUST_I2_EveryBadToken: one flaw each.
func TestMUST_I2_EveryBadToken(t *testing.T) {
	ours, foreign, unknown, anonymous := newForge(t, "k1"), newForge(t, "e1"), newForge(t, "k2"), newForge(t, "")
	thief := newForge(t, "k1") // the right key ID, another key
	j, err := NewJWT(JWTOptions{
		Bundles:      jwtbundle.NewSet(ours.bundle(td), foreign.bundle(enemy)),
		TrustDomains: []spiffeid.TrustDomain{td}, Audience: audience, MaxTTL: 10 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	der, err := json.Marshal(jose.JSONWebKey{Key: ours.key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	good := ours.sign(claims(nil), nil).Reveal()
	parts := strings.Split(good, ".")
	twoAudiences := fmt.Sprintf(`{"sub":%q,"aud":"x","aud":%q,"iat":%d,"exp":%d}`, app, audience, now, now+300)
	tests := []struct {
		name  string
		token secret.Secret
		want  error
	}{
		{"good", secret.New(good), nil},
		{"good, aud is a list of one", ours.sign(claims(object{"aud": []string{audience}}), nil), nil},
		{"good, exactly the longest life", ours.sign(claims(object{"exp": now + 600, "iat": now}), nil), nil},
		{"nothing", secret.Secret{}, ErrUnknown},

		{"alg none", unsigned(t, "none", claims(nil)), ErrInvalid},
		{"alg nOnE", unsigned(t, "nOnE", claims(nil)), ErrInvalid},
		{"alg HS256 with the public key", ours.sign(claims(nil), object{"alg": jose.HS256, "key": der}), ErrInvalid},
		{"signature stripped", secret.New(parts[0] + "." + parts[1] + "."), ErrInvalid},
		{"signature of another payload", secret.New(parts[0] + "." + strings.Split(ours.sign(claims(object{"sub": other.String()}), nil).Reveal(), ".")[1] + "." + parts[2]), ErrInvalid},
		{"signed by another key of the same kid", thief.sign(claims(nil), nil), ErrInvalid},
		{"unknown kid", unknown.sign(claims(nil), nil), ErrInvalid},
		{"no kid", anonymous.sign(claims(nil), nil), ErrInvalid},
		{"typ of another kind of token", ours.sign(claims(nil), object{"typ": "wit+jwt"}), ErrInvalid},

		{"foreign trust domain", foreign.sign(claims(object{"sub": "spiffe://enemy.example/app"}), nil), ErrTrustDomain},
		{"our sub, foreign key", foreign.sign(claims(nil), nil), ErrInvalid},
		{"no sub", ours.sign(claims(object{"sub": nil}), nil), ErrInvalid},
		{"sub is no SPIFFE ID", ours.sign(claims(object{"sub": "system:serviceaccount:a:b"}), nil), ErrInvalid},
		{"sub is a trust domain", ours.sign(claims(object{"sub": "spiffe://acme.example"}), nil), ErrInvalid},
		{"sub has the root path", ours.sign(claims(object{"sub": "spiffe://acme.example/"}), nil), ErrInvalid},
		{"sub has dot segments", ours.sign(claims(object{"sub": "spiffe://acme.example/a/../b"}), nil), ErrInvalid},

		{"two audiences", ours.sign(claims(object{"aud": []string{audience, "https://vault.example"}}), nil), ErrWrongAudience},
		{"our audience twice", ours.sign(claims(object{"aud": []string{audience, audience}}), nil), ErrWrongAudience},
		{"another audience", ours.sign(claims(object{"aud": "https://vault.example"}), nil), ErrWrongAudience},
		{"no audience", ours.sign(claims(object{"aud": nil}), nil), ErrWrongAudience},
		{"audience by prefix", ours.sign(claims(object{"aud": audience + "/x"}), nil), ErrWrongAudience},
		{"the aud claim twice", ours.signRaw([]byte(twoAudiences), nil), ErrInvalid},

		{"expired", ours.sign(claims(object{"exp": now - 3600, "iat": now - 3900}), nil), ErrExpired},
		{"expired a second ago", ours.sign(claims(object{"exp": now - 1}), nil), ErrExpired},
		{"no exp", ours.sign(claims(object{"exp": nil}), nil), ErrInvalid},
		{"lives too long", ours.sign(claims(object{"exp": now + 601}), nil), ErrInvalid},
		{"lives for ever", ours.sign(claims(object{"exp": 1e300}), nil), ErrInvalid},
		{"no iat", ours.sign(claims(object{"iat": nil}), nil), ErrInvalid},
		{"iat is text", ours.sign(claims(object{"iat": "now"}), nil), ErrInvalid},
		{"iat is absurd", ours.sign(claims(object{"iat": -1e300}), nil), ErrInvalid},
		{"issued in the future", ours.sign(claims(object{"iat": now + 3600, "exp": now + 3700}), nil), ErrInvalid},
		{"not yet valid", ours.sign(claims(object{"nbf": now + 3600}), nil), ErrInvalid},

		{"expired and forged", thief.sign(claims(object{"exp": now - 3600, "iat": now - 3900}), nil), ErrInvalid},
		{"wrong audience and forged", thief.sign(claims(object{"aud": "x"}), nil), ErrInvalid},
		{"no JWT", secret.New("token"), ErrInvalid},
		{"JSON serialisation", secret.New(fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2])), ErrInvalid},
		{"too long", secret.New(good + strings.Repeat("A", maxProxyAuthorization)), ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := j.Resolve(t.Context(), Peer{JWT: tt.token})
			wantError(t, err, tt.want)
			if (c == nil) != (tt.want != nil) {
				t.Errorf("caller = %v", c)
			}
			if s := tt.token.Reveal(); err != nil && len(s) > 20 && strings.Contains(err.Error(), s[len(s)-20:]) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
}

// TestMUST_I2_GoSpiffeAloneIsNotEnough shows why check exists: go-spiffe accepts these.
func TestMUST_I2_GoSpiffeAloneIsNotEnough(t *testing.T) {
	f := newForge(t, "k1")
	now := time.Now().Unix()
	j, err := NewJWT(JWTOptions{Bundles: f.bundle(td), TrustDomains: ourTDs, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]object{
		"two audiences": {"aud": []string{audience, "x"}},
		"just expired":  {"exp": now - 5},
		"long-lived":    {"exp": now + 1e6},
		"no iat":        {"iat": nil},
		"root path":     {"sub": td.IDString()},
	} {
		token := f.sign(claims(c), nil)
		if _, err := jwtsvid.ParseAndValidate(token.Reveal(), f.bundle(td), []string{audience}); err != nil {
			t.Errorf("%s: go-spiffe refuses it by now: %v", name, err)
		}
		if _, err := j.Resolve(t.Context(), Peer{JWT: token}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestMUST_I11_VerifierIsConfigured: a token brings its own key in every way that JOSE
// knows, and names a server that would vouch for it. Nobody asks there.
func TestMUST_I11_VerifierIsConfigured(t *testing.T) {
	ours, thief := newForge(t, "k1"), newForge(t, "k1")
	vouches := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was fetched", r.URL)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: thief.key.Public(), KeyID: "k1"}}})
	}))
	defer vouches.Close()
	j, err := NewJWT(JWTOptions{Bundles: ours.bundle(td), TrustDomains: ourTDs, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]object{
		"jku": {"jku": vouches.URL}, "x5u": {"x5u": vouches.URL},
		"jwk": {"jwk": jose.JSONWebKey{Key: thief.key.Public(), KeyID: "k1"}},
		"iss": {},
	} {
		t.Run(name, func(t *testing.T) {
			c := claims(object{"iss": vouches.URL})
			_, err := j.Resolve(t.Context(), Peer{JWT: thief.sign(c, header)})
			wantError(t, err, ErrInvalid)
			// The same words over a good signature change nothing either.
			if name != "jwk" {
				_, err = j.Resolve(t.Context(), Peer{JWT: ours.sign(c, header)})
				wantError(t, err, nil)
			}
		})
	}
}

func TestNewJWTRefuses(t *testing.T) {
	b := jwtbundle.NewSet()
	for want, o := range map[string]JWTOptions{
		"jwt-svid: no source of bundles given":                                        {TrustDomains: ourTDs, Audience: "a"},
		"jwt-svid: no trust domain is allowed; list those whose callers are accepted": {Bundles: b, Audience: "a"},
		"jwt-svid: no audience given; name the one that tokens for this proxy carry":  {Bundles: b, TrustDomains: ourTDs},
		"jwt-svid: max ttl is -1s, must not be negative":                              {Bundles: b, TrustDomains: ourTDs, Audience: "a", MaxTTL: -time.Second},
	} {
		if _, err := NewJWT(o); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// changing is a JWT bundle source whose answer can be replaced.
type changing struct {
	bundle *jwtbundle.Bundle
	err    error
}

func (c *changing) GetJWTBundleForTrustDomain(spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	return c.bundle, c.err
}

func TestMUST_I4_JWTIsAskedAgain(t *testing.T) {
	f, thief := newForge(t, "k1"), newForge(t, "k1")
	more := f.bundle(td)
	if err := more.AddJWTAuthority("k9", thief.key.Public()); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*changing)
		want   error
	}{
		{"nothing", func(*changing) {}, nil},
		{"another key has come", func(c *changing) { c.bundle = more }, nil},
		{"the key is gone", func(c *changing) { c.bundle = jwtbundle.New(td) }, ErrRevoked},
		{"another key has its ID", func(c *changing) { c.bundle = thief.bundle(td) }, ErrRevoked},
		{"the bundle is gone", func(c *changing) { c.err = errors.New("no bundle") }, ErrRevoked},
		{"the source is too old", func(c *changing) { c.err = ErrUnavailable }, ErrUnavailable},
		{"the token has ended", func(*changing) { time.Sleep(5 * time.Minute) }, ErrExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := &changing{bundle: f.bundle(td)}
				j, err := NewJWT(JWTOptions{Bundles: source, TrustDomains: ourTDs, Audience: audience})
				if err != nil {
					t.Fatal(err)
				}
				c, err := j.Resolve(t.Context(), Peer{JWT: f.sign(claims(nil), nil)})
				if err != nil {
					t.Fatal(err)
				}
				tt.change(source)
				for range 2 {
					w, err := c.Workload()
					wantError(t, err, tt.want)
					if (w == Workload{}) != (tt.want != nil) {
						t.Errorf("workload = %+v", w)
					}
				}
			})
		})
	}
}

// TestMUST_I10_CallerForgetsTheToken: nothing that is printed of a caller holds it.
func TestMUST_I10_CallerForgetsTheToken(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	token := mintJWT(t, i, app, 0)
	c, err := newJWT(t, i).Resolve(t.Context(), Peer{JWT: token})
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%+v %#v", c, c); strings.Contains(s, token.Reveal()) {
		t.Error("the caller holds the token")
	}
}

// FuzzJWT: whatever is presented, a caller comes out only of a token that our key
// signed, and the error is one of the contract's.
func FuzzJWT(f *testing.F) {
	i, err := embedded.New(embedded.Options{TrustDomain: td})
	if err != nil {
		f.Fatal(err)
	}
	good, err := i.MintJWT(app, audience, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	j, err := NewJWT(JWTOptions{Bundles: i.Bundles(), TrustDomains: ourTDs, Audience: audience})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Reveal())
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(`{"payload":"","signatures":[]}`)
	f.Add("..")
	signedPart := good.Reveal()[:strings.LastIndexByte(good.Reveal(), '.')]
	f.Fuzz(func(t *testing.T, s string) {
		c, err := j.Resolve(t.Context(), Peer{JWT: secret.New(s)})
		if err == nil && !strings.HasPrefix(s, signedPart+".") {
			t.Errorf("accepted %q", s)
		}
		if (c == nil) != (err != nil) {
			t.Errorf("caller %v, error %v", c, err)
		}
		for _, known := range sentinels() {
			if err == nil || errors.Is(err, known) {
				return
			}
		}
		t.Errorf("unknown error %v", err)
	})
}
