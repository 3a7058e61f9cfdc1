// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Grants of OAuth2Provider.
const (
	grantClient   = "client_credentials"
	grantExchange = "token_exchange"
	grantJWT      = "jwt_bearer"
	grantRefresh  = "refresh_token"
)

// Ways to authenticate at a token endpoint.
const (
	clientSecretBasic = "client_secret_basic"
	clientSecretPost  = "client_secret_post"
	clientPrivateKey  = "private_key_jwt"
	clientJWTSPIFFE   = "jwt-spiffe"
	clientTLS         = "tls_client_auth"
	clientSelfSigned  = "self_signed_tls_client_auth"
	clientNone        = "none"
)

// OAuth2Provider asks a token endpoint (RFC 6749, 4.4).
type OAuth2Provider struct {
	// Grant is client_credentials; token_exchange (RFC 8693) or jwt_bearer (RFC 7523), which present the workload's JWT-SVID; or refresh_token, whose access token is one for all workloads. Required.
	Grant string `json:"grant"`
	// TokenURL is https, without user information, query and fragment; nothing of the application's request may influence it. Required.
	TokenURL string `json:"tokenURL"`
	// RevocationURL is where tokens are ended that are given up early (RFC 7009). Default: they live until their end.
	RevocationURL string `json:"revocationURL,omitempty"`
	// ClientID is required by client_secret_basic, client_secret_post and private_key_jwt. With tls_client_auth the default is the workload's SPIFFE ID.
	ClientID string `json:"clientID"`
	// ClientSecret is needed by client_secret_basic and client_secret_post.
	ClientSecret *SecretSource `json:"clientSecret,omitempty"`
	// ClientAuth is client_secret_basic (default), client_secret_post, private_key_jwt, jwt-spiffe: the workload's JWT-SVID as client assertion (draft-ietf-oauth-spiffe-client-auth), tls_client_auth or self_signed_tls_client_auth: its X.509-SVID (RFC 8705), or none: the subject's token alone.
	ClientAuth string `json:"clientAuth,omitempty"`
	// PrivateKey is where the key of private_key_jwt is, PEM or JWK: RSA of at least 2048 bits, or P-256.
	PrivateKey *SecretSource `json:"privateKey,omitempty"`
	// KeyID is the kid by which the issuer knows that key. Default: that of the JWK, else none.
	KeyID string `json:"keyID,omitempty"`
	// Algorithm is RS256, PS256 or ES256. Default: RS256 for an RSA key, ES256 for P-256.
	Algorithm string `json:"algorithm,omitempty"`
	// AssertionAudience is the audience of the client's JWT, with jwt-spiffe and private_key_jwt: the issuer identifier of the authorization server. Default: the token URL.
	AssertionAudience string `json:"assertionAudience,omitempty"`
	// SubjectAudience is the only audience of the JWT-SVID that token_exchange and jwt_bearer present. Default: the token URL.
	SubjectAudience string `json:"subjectAudience,omitempty"`
	// RequestedTokenType is a URI (RFC 8693, 3); with it the issuer must give exactly this type. Default: an access token or a JWT, as the issuer likes.
	RequestedTokenType string `json:"requestedTokenType,omitempty"`
	// StateFile keeps the refresh token of grant refresh_token, in a folder that egret can write to and that all replicas share, outside of the policy. Write the first refresh token into it, mode 0600; egret replaces the file from then on.
	StateFile string `json:"stateFile,omitempty" file:"state"`
	// RefreshGrace is for how long after its first use the issuer takes a refresh token once more. Default: never; a token whose answer was lost is then not used again before its access token ends.
	RefreshGrace string `json:"refreshGrace,omitempty"`
	// Scopes are asked for, one to an entry. Default: those that the issuer gives by itself.
	Scopes []string `json:"scopes,omitempty"`
	// Audience is asked for where the issuer knows that parameter. Default: none.
	Audience string `json:"audience,omitempty"`
	// Resource is an absolute URI (RFC 8707). Default: none.
	Resource string `json:"resource,omitempty"`
	// Endpoint is how the host of the token URL is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

func (p *OAuth2Provider) check(f *faults, path string) {
	f.oneOf(path+".grant", p.Grant, grantClient, grantExchange, grantJWT, grantRefresh)
	f.wrong(path+".tokenURL", p.TokenURL, checkTokenURL(p.TokenURL))
	if p.RevocationURL != "" {
		f.wrong(path+".revocationURL", p.RevocationURL, checkTokenURL(p.RevocationURL))
	}
	f.clientAuth(path, p)
	f.subject(path, p)
	f.refresh(path, p)
	f.scopes(path+".scopes", p.Scopes)
	f.optionalLine(path+".audience", p.Audience)
	f.resource(path+".resource", p.Resource)
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) clientAuth(path string, p *OAuth2Provider) {
	f.oneOf(path+".clientAuth", p.ClientAuth, "", clientSecretBasic, clientSecretPost, clientPrivateKey, clientJWTSPIFFE, clientTLS, clientSelfSigned, clientNone)
	f.optionalLine(path+".clientID", p.ClientID)
	if p.ClientAuth == clientNone && p.Grant == grantClient {
		f.bad(path+".clientAuth", clientNone, "must be a proof of the client, which is all that grant client_credentials has")
	}
	if p.ClientAuth != clientPrivateKey && p.ClientAuth != clientJWTSPIFFE {
		f.absent(path+".assertionAudience", p.AssertionAudience != "", "without clientAuth: jwt-spiffe or private_key_jwt")
	}
	f.oneAudience(path+".assertionAudience", p.AssertionAudience)
	f.clientSecret(path, p)
	f.clientKey(path, p)
}

func (f *faults) clientSecret(path string, p *OAuth2Provider) {
	switch p.ClientAuth {
	case clientJWTSPIFFE, clientPrivateKey, clientTLS, clientSelfSigned, clientNone:
		f.absent(path+".clientSecret", p.ClientSecret != nil, "with clientAuth: "+p.ClientAuth)
		return
	}
	if p.ClientID == "" {
		f.bad(path+".clientID", "", "is required")
	}
	if p.ClientSecret == nil {
		f.add(Fault{path + ".clientSecret", "", "is required", "or use clientAuth: jwt-spiffe, which needs none"})
		return
	}
	f.source(path+".clientSecret", p.ClientSecret)
}

func (f *faults) clientKey(path string, p *OAuth2Provider) {
	if p.ClientAuth != clientPrivateKey {
		const because = "without clientAuth: private_key_jwt"
		f.absent(path+".privateKey", p.PrivateKey != nil, because)
		f.absent(path+".keyID", p.KeyID != "", because)
		f.absent(path+".algorithm", p.Algorithm != "", because)
		return
	}
	if p.ClientID == "" {
		f.bad(path+".clientID", "", "is required")
	}
	f.optionalLine(path+".keyID", p.KeyID)
	f.oneOf(path+".algorithm", p.Algorithm, "", "RS256", "PS256", "ES256")
	if p.PrivateKey == nil {
		f.bad(path+".privateKey", "", "is required")
		return
	}
	f.source(path+".privateKey", p.PrivateKey)
}

// subject checks what is presented of the workload besides the client's proof.
func (f *faults) subject(path string, p *OAuth2Provider) {
	f.absent(path+".subjectAudience", p.SubjectAudience != "" && !p.presentsSubject(), "without grant: token_exchange or jwt_bearer")
	f.oneAudience(path+".subjectAudience", p.SubjectAudience)
	if p.Grant != grantExchange {
		f.absent(path+".requestedTokenType", p.RequestedTokenType != "", "without grant: token_exchange")
		return
	}
	f.absoluteURI(path+".requestedTokenType", p.RequestedTokenType, "RFC 8693, 3")
}

func (p *OAuth2Provider) presentsSubject() bool {
	return p.Grant == grantExchange || p.Grant == grantJWT
}

func (p *OAuth2Provider) provesBySVID() bool {
	return slices.Contains([]string{clientJWTSPIFFE, clientTLS, clientSelfSigned}, p.ClientAuth)
}

// refresh checks what goes with a token that is one for all workloads and all replicas.
func (f *faults) refresh(path string, p *OAuth2Provider) {
	if p.Grant != grantRefresh {
		f.absent(path+".stateFile", p.StateFile != "", "without grant: refresh_token")
		f.absent(path+".refreshGrace", p.RefreshGrace != "", "without grant: refresh_token")
		return
	}
	if p.provesBySVID() {
		f.bad(path+".clientAuth", p.ClientAuth, "must be the client's own proof, not a workload's, with grant refresh_token")
	}
	f.absent(path+".audience", p.Audience != "", "with grant: refresh_token")
	if p.RevocationURL != "" {
		f.bad(path+".revocationURL", "", "must be absent with grant refresh_token: it would end the token of all replicas")
	}
	f.duration(path+".refreshGrace", p.RefreshGrace, span{time.Second, time.Hour})
	f.stateFile(path+".stateFile", p.StateFile)
}

func (f *faults) stateFile(path, value string) {
	if value == "" {
		f.add(Fault{path, "", "is required", "a file in a folder that egret can write to, with the first refresh token in it"})
		return
	}
	f.file(path, value)
}

func (p *OAuth2Provider) traits() traits {
	return traits{
		shared: p.Grant == grantRefresh, usesSVID: p.provesBySVID() || p.presentsSubject(),
		audience: p.Audience, resource: p.Resource, scopes: p.Scopes, assertion: p.shown(),
	}
}

// shown is the audience of the JWT-SVID that the issuer sees: the subject's, else the client's.
func (p *OAuth2Provider) shown() string {
	switch {
	case p.presentsSubject():
		return cmp.Or(p.SubjectAudience, p.TokenURL)
	case p.ClientAuth == clientJWTSPIFFE:
		return cmp.Or(p.AssertionAudience, p.TokenURL)
	}
	return ""
}

func (f *faults) resource(path, value string) { f.absoluteURI(path, value, "RFC 8707") }

func (f *faults) absoluteURI(path, value, source string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || !u.IsAbs() || strings.Contains(value, "#") || !printable(value) {
		f.bad(path, value, "must be an absolute URI without fragment ("+source+")")
	}
}

// scopeToken implements RFC 6749, 3.3: 1*( %x21 / %x23-5B / %x5D-7E ).
func scopeToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return r < 0x21 || r > 0x7e || r == '"' || r == '\\'
	}) < 0
}
