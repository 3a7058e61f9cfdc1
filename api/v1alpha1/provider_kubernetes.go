// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	"github.com/egret-proxy/egret/credential/kubernetes"
)

// KubernetesProvider gets what a Kubernetes API server holds or mints: exactly one of secret and token is set.
type KubernetesProvider struct {
	// Secret is a key of a Secret, followed when it changes.
	Secret *KubernetesSecret `json:"secret,omitempty"`
	// Token is a token of a service account, minted for each workload (TokenRequest).
	Token *KubernetesToken `json:"token,omitempty"`
	// Server is kube-apiserver, https://host:port. Default: that of the cluster that egret's pod runs in.
	Server string `json:"server,omitempty"`
	// TokenFile holds egret's own service-account token, read anew for each call. Default: the pod's. Required with server.
	TokenFile string `json:"tokenFile,omitempty" file:"yes"`
	// Endpoint is how the server is reached; its roots are required with server.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

// KubernetesSecret names one key of a Secret. egret's own account needs list and watch of secrets, which a Role can restrict to this one (resourceNames).
type KubernetesSecret struct {
	// Namespace of the Secret. Required.
	Namespace string `json:"namespace"`
	// Name of the Secret. Required.
	Name string `json:"name"`
	// Key whose value is {token}: one line of text. Required.
	Key string `json:"key"`
	// UsernameKey is the key whose value is {username}. Default: none.
	UsernameKey string `json:"usernameKey,omitempty"`
}

// KubernetesToken names a service account. egret's own account needs create of serviceaccounts/token, which a Role can restrict to this one (resourceNames).
type KubernetesToken struct {
	// Namespace of the service account. Required.
	Namespace string `json:"namespace"`
	// ServiceAccount is its name. Required.
	ServiceAccount string `json:"serviceAccount"`
	// Audiences are who the token is for. Required: without, it would open the API server itself.
	Audiences []string `json:"audiences"`
	// Expiration that is asked for, 10m to 24h; the server may give less. Default: 1h.
	Expiration string `json:"expiration,omitempty"`
	// BoundObjectRef is an object with which the token ends. Default: none but the service account.
	BoundObjectRef *KubernetesObject `json:"boundObjectRef,omitempty"`
}

// KubernetesObject names an object that tokens are bound to.
type KubernetesObject struct {
	// Kind is Pod, Secret or Node. Required.
	Kind string `json:"kind"`
	// Name of the object; a Pod or Secret of the service account's namespace. Required.
	Name string `json:"name"`
	// UID of the object, so that another of the same name does not do. Default: any.
	UID string `json:"uid,omitempty"`
}

func (p *KubernetesProvider) check(f *faults, path string) {
	switch {
	case (p.Secret == nil) == (p.Token == nil):
		f.add(Fault{path, "", "must have exactly one of secret and token", "secret serves a key of a Secret, token mints one of a service account"})
	case p.Secret != nil:
		p.Secret.check(f, path+".secret")
	default:
		p.Token.check(f, path+".token")
	}
	if p.TokenFile != "" {
		f.file(path+".tokenFile", p.TokenFile)
	}
	if p.Server == "" {
		f.absent(path+".endpoint", p.Endpoint != nil, "without server")
		return
	}
	if err := kubernetes.CheckServer(p.Server); err != nil {
		f.bad(path+".server", "", err.Error()) // which may hold a password
	}
	if p.TokenFile == "" {
		f.add(Fault{path + ".tokenFile", "", "is required with server", "the pod's own token is for the pod's own cluster alone"})
	}
	if p.Endpoint == nil || p.Endpoint.Roots == "" {
		f.add(Fault{path + ".endpoint.roots", "", "is required with server", "a PEM file with the CA of that cluster"})
	}
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (s *KubernetesSecret) check(f *faults, path string) {
	f.wrong(path+".namespace", s.Namespace, kubernetes.CheckName(s.Namespace))
	f.wrong(path+".name", s.Name, kubernetes.CheckName(s.Name))
	f.wrong(path+".key", s.Key, kubernetes.CheckKey(s.Key))
	if s.UsernameKey != "" {
		f.wrong(path+".usernameKey", s.UsernameKey, kubernetes.CheckKey(s.UsernameKey))
	}
}

func (t *KubernetesToken) check(f *faults, path string) {
	f.wrong(path+".namespace", t.Namespace, kubernetes.CheckName(t.Namespace))
	f.wrong(path+".serviceAccount", t.ServiceAccount, kubernetes.CheckName(t.ServiceAccount))
	if len(t.Audiences) == 0 {
		f.add(Fault{path + ".audiences", "", "is required", "name who the token is for; without, it would open the API server itself"})
	}
	for i, a := range t.Audiences {
		f.line(at(path+".audiences", i), a)
	}
	f.distinct(path+".audiences", t.Audiences)
	f.duration(path+".expiration", t.Expiration, span{kubernetes.MinExpiration, kubernetes.MaxExpiration})
	if o := t.BoundObjectRef; o != nil {
		f.wrong(path+".boundObjectRef.kind", o.Kind, kubernetes.CheckBoundKind(o.Kind))
		f.wrong(path+".boundObjectRef.name", o.Name, kubernetes.CheckName(o.Name))
		f.optionalLine(path+".boundObjectRef.uid", o.UID)
	}
}

// Lifetime is the expiration that is asked for.
func (t *KubernetesToken) Lifetime() time.Duration {
	if d, err := time.ParseDuration(t.Expiration); err == nil {
		return d
	}
	return kubernetes.DefaultExpiration
}

// traits: a Secret is the same for all; tokens are minted one for each workload.
func (p *KubernetesProvider) traits() traits {
	t := traits{shared: p.Secret != nil}
	if p.Secret != nil && p.Secret.UsernameKey != "" {
		t.values = []string{"token", "username"}
	}
	return t
}
