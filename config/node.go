// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads what people write: the node's own settings (egret.yaml) and
// the policy documents. It is the only package that knows YAML. Decoding is strict,
// every fault of a load is reported at once with file, line and path, and a setting
// that would be ignored is refused.
package config

import "time"

// Node is egret.yaml: the settings of one egret, written by whoever runs the node.
// Every bound has a key, a default and a unit.
type Node struct {
	Node      string     `json:"node,omitempty"` // name in records; default: the host name
	Listeners []Listener `json:"listeners"`
	Spiffe    Spiffe     `json:"spiffe"`
	Admin     Admin      `json:"admin,omitempty"`
	Metrics   Metrics    `json:"metrics,omitempty"`
	Certs     Certs      `json:"certs"`
	Policy    Policy     `json:"policy"`
	Egress    Egress     `json:"egress,omitempty"`
	Upstream  Upstream   `json:"upstream,omitempty"`
	Audit     Audit      `json:"audit,omitempty"`
	Secrets   Secrets    `json:"secrets,omitempty"`
	Log       Log        `json:"log,omitempty"`
	Limits    Limits     `json:"limits,omitempty"`
}

// Listener is one entrance. It says by exactly one way who its callers are.
type Listener struct {
	Name     string       `json:"name"`             // in records, metrics and logs; unique
	Address  string       `json:"address"`          // host:port, unix:///path, systemd:NAME (socket activation, FileDescriptorName=), or steer:///path (transparent: the pods that egret steer leads here over this socket)
	Kind     string       `json:"kind"`             // forward (clients send CONNECT) or transparent (their connections are redirected here)
	TProxy   bool         `json:"tproxy,omitempty"` // transparent, by TPROXY rules instead of REDIRECT; needs CAP_NET_ADMIN
	TLS      *ListenerTLS `json:"tls,omitempty"`
	Identify Identify     `json:"identify"`
}

// ListenerTLS is the certificate that a TLS listener shows to its clients: an ordinary
// one with a DNS or IP name, not an SVID, since clients check proxies by name.
type ListenerTLS struct {
	Cert string `json:"cert"` // PEM: leaf first
	Key  string `json:"key"`  // PEM: its key
}

// Identify is a union: exactly one member is set.
type Identify struct {
	Sidecar  *Sidecar  `json:"sidecar,omitempty"`
	X509SVID *X509SVID `json:"x509SVID,omitempty"`
	JWTSVID  *JWTSVID  `json:"jwtSVID,omitempty"`
	Process  *Process  `json:"process,omitempty"`

	KubernetesToken *KubernetesToken `json:"kubernetesToken,omitempty"`
}

// Sidecar: whoever reaches the listener is the workload whose SVID egret holds. Only on
// loopback (or a unix socket) inside a network namespace of the workload's own.
type Sidecar struct {
	// SameUser accepts only connections of processes with egret's own uid, as the
	// kernel says. Required in the host's network namespace, where every user of the
	// machine could otherwise connect. Linux only.
	SameUser bool `json:"sameUser,omitempty"`
}

// X509SVID: the client certificate of the TLS listener is the caller's X.509-SVID.
type X509SVID struct{}

// JWTSVID: the caller sends a JWT-SVID in Proxy-Authorization, as Bearer or as the
// password of Basic. Only over TLS, loopback or a unix socket.
type JWTSVID struct {
	Audience string        `json:"audience"`         // the only audience of the token
	MaxTTL   time.Duration `json:"maxTTL,omitempty"` // exp - iat at most; default 1h
}

// Process: the kernel says which local process connected, and an attestor which
// identity that process has. Over a unix socket it is the very process; over TCP it is
// known by its cgroup and uid. Only on loopback or a unix socket. Linux only.
type Process struct {
	Attestor string `json:"attestor"` // delegated or broker (a SPIRE agent), or embedded
	// Reference says how a broker is asked: pid (default), by one of the caller's processes,
	// or pod, by the UID of its Kubernetes pod, and then callers outside of pods are
	// refused. By pod the agent tells pod-level selectors only (k8s:ns, k8s:sa, k8s:pod-…):
	// entries with k8s:container-… or unix: selectors never match. For broker only.
	Reference  string `json:"reference,omitempty"`
	Hybrid     bool   `json:"hybrid,omitempty"`     // cgroup v1 is mounted too, and every workload is in a v2 group of its own all the same
	RootCgroup bool   `json:"rootCgroup,omitempty"` // callers over TCP in no cgroup but the top one are known by their uid alone
}

// KubernetesToken: the caller sends a projected service-account token in
// Proxy-Authorization, and kube-apiserver vouches for it (TokenReview). For clusters
// without SPIRE. Transport as for jwtSVID.
type KubernetesToken struct {
	Audience  string        `json:"audience"`            // that tokens for this egret are projected with
	ID        string        `json:"id"`                  // SPIFFE ID of a service account: spiffe://acme.example/ns/{namespace}/sa/{serviceAccount}
	Server    string        `json:"server,omitempty"`    // kube-apiserver; default https://kubernetes.default.svc
	CA        string        `json:"ca,omitempty"`        // PEM file that the server is verified by; default: the pod's
	TokenFile string        `json:"tokenFile,omitempty"` // egret's own token, which may create tokenreviews; default: the pod's
	Node      string        `json:"node,omitempty"`      // accept pods of this node only; default: of any
	Age       time.Duration `json:"age,omitempty"`       // a review is believed this long; default 30s. A token whose pod is deleted is refused after this and up to 10s for which kube-apiserver itself remembers it
}

// Spiffe says where identities come from.
type Spiffe struct {
	WorkloadAPI  string    `json:"workloadAPI"`        // unix:///path or tcp://ip:port; default: $SPIFFE_ENDPOINT_SOCKET
	TrustDomains []string  `json:"trustDomains"`       // whose callers are accepted
	ID           string    `json:"id,omitempty"`       // egret's own SVID, where the Workload API returns several
	Embedded     *Embedded `json:"embedded,omitempty"` // instead of workloadAPI, where there is no SPIRE

	Delegated *AgentSocket `json:"delegated,omitempty"` // the agent's Delegated Identity API, for process listeners
	Broker    *AgentSocket `json:"broker,omitempty"`    // the agent's SPIFFE Broker API, for process listeners
}

// AgentSocket is where a SPIRE agent answers about other workloads than the caller.
type AgentSocket struct {
	Socket string `json:"socket"` // unix:///path
}

// Embedded is an in-process SPIFFE issuer, for laptops and CI runners.
type Embedded struct {
	SpiffeID string          `json:"spiffeID"`          // egret's own ID, which sidecar listeners credit their callers with
	Entries  []EmbeddedEntry `json:"entries,omitempty"` // who the callers of process listeners are
}

// EmbeddedEntry gives an identity to local processes. What is empty is not asked for.
type EmbeddedEntry struct {
	SpiffeID string `json:"spiffeID"`         // in the trust domain of egret's own, and not that
	UIDs     []int  `json:"uids"`             // effective users of the process
	GIDs     []int  `json:"gids,omitempty"`   // effective groups; over unix sockets only
	Path     string `json:"path,omitempty"`   // of its program, as egret sees it; over unix sockets only
	SHA256   string `json:"sha256,omitempty"` // of its program, in lower-case hex; over unix sockets only
	Cgroup   string `json:"cgroup,omitempty"` // path in the v2 hierarchy; groups below it match too
	Unit     string `json:"unit,omitempty"`   // systemd unit that the cgroup belongs to, such as nightly.service
}

// Admin is where changes of state come in: a unix socket whose peer's uid is checked.
type Admin struct {
	Socket string `json:"socket,omitempty"` // default: none
	UIDs   []int  `json:"uids,omitempty"`   // besides root and egret's own uid
	// Revocations is a file in which egret keeps what egret revoke has taken away, so that it
	// outlives a restart; its folder must be writable. Default: none, it is kept until egret ends.
	Revocations string `json:"revocations,omitempty"`
}

// Metrics is a plain HTTP listener that says nothing secret and changes nothing.
type Metrics struct {
	Address string `json:"address,omitempty"` // default: none
}

// Certs configures the interception CA.
type Certs struct {
	Issuer  CertIssuer    `json:"issuer"`
	LeafTTL time.Duration `json:"leafTTL,omitempty"` // default and maximum 24h
}

// CertIssuer is a union: exactly one member is set.
type CertIssuer struct {
	File      []IssuerFile `json:"file,omitempty"`      // intermediates made by egret ca issue
	Ephemeral *Ephemeral   `json:"ephemeral,omitempty"` // a CA of this process' life, constrained to the loaded destinations: laptops and CI only
}

// Ephemeral is a CA whose keys are never written down.
type Ephemeral struct {
	Bundle string `json:"bundle,omitempty"` // PEM file that egret run writes what clients must trust to, and removes at its end; default: none
}

// IssuerFile is one intermediate.
type IssuerFile struct {
	Chain string `json:"chain"` // PEM: intermediate, then root
	Key   string `json:"key"`   // PEM: the intermediate's key; not readable by others
}

// Policy says where the governed objects are.
type Policy struct {
	Paths []PolicyPath `json:"paths"`
}

// PolicyPath is a file or a directory (read recursively, *.yaml and *.yml).
type PolicyPath struct {
	Path string `json:"path"` // relative to egret.yaml
	// Scope limits what its authors may write: Workloads and AccessPolicies for SPIFFE IDs
	// under these patterns (a trailing /** for the rest), and nothing else (MUST G1).
	Scope []string `json:"scope,omitempty"`
}

// Egress is for hosts that no destination lists.
type Egress struct {
	Unlisted  string   `json:"unlisted,omitempty"`  // deny (default) or tunnel
	DenyCIDRs []string `json:"denyCIDRs,omitempty"` // node, pod and service ranges, besides the built-in private classes; required in Kubernetes
}

// Upstream is how egret reaches the world.
type Upstream struct {
	Roots     string         `json:"roots,omitempty"`     // PEM file; default: the system's
	Proxy     *UpstreamProxy `json:"proxy,omitempty"`     // corporate proxy; never from the environment
	Resolvers []string       `json:"resolvers,omitempty"` // ip:port; default: those of the system
	NAT64     []string       `json:"nat64,omitempty"`     // prefixes to decode and check
	Mark      int            `json:"mark,omitempty"`      // firewall mark (SO_MARK) of egret's own connections, by which redirect rules leave them alone; needs CAP_NET_ADMIN or CAP_NET_RAW; default: none
}

// UpstreamProxy is a corporate proxy that egret itself goes through with CONNECT.
type UpstreamProxy struct {
	URL      string `json:"url"`                // http://host:port or https://host:port
	Roots    string `json:"roots,omitempty"`    // PEM file for https; default: the system's
	Username string `json:"username,omitempty"` // for Basic, with password
	Password string `json:"password,omitempty"` // a file that holds it
}

// Audit is where records go.
type Audit struct {
	File     string `json:"file,omitempty"`     // path, or "-" for standard output (default)
	OnFull   string `json:"onFull,omitempty"`   // refuse (default) or drop (counted)
	Queue    int    `json:"queue,omitempty"`    // places; default 4096
	MaxSize  Size   `json:"maxSize,omitempty"`  // rotate at this size; default 100MiB
	MaxFiles int    `json:"maxFiles,omitempty"` // rotated files kept; default 10
}

// Secrets allows weaker sources of secrets.
type Secrets struct {
	AllowEnv bool `json:"allowEnv,omitempty"` // Credentials may name variables of egret's environment

	// AllowPrograms are the programs, by their absolute paths, that Credentials may run (provider exec).
	AllowPrograms []string `json:"allowPrograms,omitempty"`
}

// Log is egret's own log on standard error.
type Log struct {
	Level  string `json:"level,omitempty"`  // debug, info (default), warn, error
	Format string `json:"format,omitempty"` // text (default on a terminal) or json
}

// Limits are the bounds. Each has a default that is a visible value in the reference.
type Limits struct {
	HeaderBytes            Size          `json:"headerBytes,omitempty"`            // request header; 64KiB
	Connections            int           `json:"connections,omitempty"`            // all listeners; 9000
	ConnectionsPerWorkload int           `json:"connectionsPerWorkload,omitempty"` // 1000
	Handshake              time.Duration `json:"handshake,omitempty"`              // CONNECT and TLS; 10s
	Idle                   time.Duration `json:"idle,omitempty"`                   // keep-alive connections; 5m
	TunnelIdle             time.Duration `json:"tunnelIdle,omitempty"`             // 1h
	MaxStream              time.Duration `json:"maxStream,omitempty"`              // upgraded connections; 24h
	Drain                  time.Duration `json:"drain,omitempty"`                  // grace on SIGTERM; 30s
	Dial                   time.Duration `json:"dial,omitempty"`                   // one upstream connect with TLS; 10s
	ResponseHeader         time.Duration `json:"responseHeader,omitempty"`         // upstream's answer; 0 = none; default 5m
	CredentialWait         time.Duration `json:"credentialWait,omitempty"`         // a request waits this long for its first credential; 10s
	IdleUpstreamPerKey     int           `json:"idleUpstreamPerKey,omitempty"`     // 8
	IdleUpstream           int           `json:"idleUpstream,omitempty"`           // 1024
	Leaves                 int           `json:"leaves,omitempty"`                 // cached leaf certificates; 4096
	Credentials            int           `json:"credentials,omitempty"`            // cached credentials; 10000
	Processes              int           `json:"processes,omitempty"`              // local workloads that one process listener follows; 4096
	ProcessIdle            time.Duration `json:"processIdle,omitempty"`            // a local workload without a connection is followed this long; 15m
}

// Size is a number of bytes, written as 64KiB, 100MiB, 1GiB or a plain number.
type Size int64
