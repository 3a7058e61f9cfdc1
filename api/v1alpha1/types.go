// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the governed objects: what people write, review and own.
// They are plain structs that validate themselves and compile into package policy;
// how they are read (YAML files, Kubernetes) is not known here. See the reference in
// docs/reference/policy.md, which is generated from these types.
package v1alpha1

// APIVersion and Kinds of every document.
const (
	APIVersion       = "egret.dev/v1alpha1"
	KindWorkload     = "Workload"
	KindDestination  = "Destination"
	KindCredential   = "Credential"
	KindAccessPolicy = "AccessPolicy"
)

// Fault is one thing that is wrong with an object. Config adds the file and the line.
type Fault struct {
	Path  string // where in the object: spec.allow[0].paths[1]
	Value string // what is there, empty when it is missing
	Rule  string // what must hold: "must be one of GET, POST, …"
	Hint  string // what to do next, a sentence or a command; may be empty
}

// Meta names an object. Names are unique per kind.
type Meta struct {
	Name string `json:"name"` // lower-case letters, digits and dashes, at most 63
}

// Workload is a non-human caller with a SPIFFE ID and a named owner.
type Workload struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Metadata   Meta         `json:"metadata"`
	Spec       WorkloadSpec `json:"spec"`
}

// WorkloadSpec describes a caller.
type WorkloadSpec struct {
	// SpiffeID is exact, or has whole path segments replaced by *.
	SpiffeID string `json:"spiffeID"`
	// Owner is a person or team that answers for the workload: a mail address or a group name. Required.
	Owner string `json:"owner"`
	// Purpose says in a sentence what it is for. Required.
	Purpose string `json:"purpose"`
	// Environment separates production from the rest; credential and policy must be of the same one. Required.
	Environment string `json:"environment"`
	// Evidence lists the kinds that are strong enough for this workload. Default: sidecar, process, pod, x509-svid; not the bearer kinds jwt-svid and token.
	Evidence []string `json:"evidence,omitempty"`
	// Schedule makes it a scheduled workload: requests outside its windows are denied.
	Schedule *Schedule `json:"schedule,omitempty"`
}

// Schedule is when a scheduled workload runs.
type Schedule struct {
	// Cron has five fields: minute, hour, day of month, month, day of week. Required.
	Cron string `json:"cron"`
	// Timezone is an IANA name. Default: UTC.
	Timezone string `json:"timezone,omitempty"`
	// Window is how long after each start requests are accepted, 1m to 24h. Required.
	Window string `json:"window"`
}

// Destination is an allow-listed SaaS: names, ports, how TLS is handled.
type Destination struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   Meta            `json:"metadata"`
	Spec       DestinationSpec `json:"spec"`
}

// DestinationSpec describes a SaaS.
type DestinationSpec struct {
	// Hosts are exact names, or "*.example.com" for exactly one label, but not directly under a public suffix. An IP address needs intercept: never. No host may stand in two destinations. Required.
	Hosts []string `json:"hosts"`
	// Ports default to 443.
	Ports []int `json:"ports,omitempty"`
	// Intercept is always (default) or never: tunnelled unread, for pinned clients; no credential and no path rules then.
	Intercept string `json:"intercept,omitempty"`
	// TLS names the roots of a private CA. Verification itself has no off switch.
	TLS *DestinationTLS `json:"tls,omitempty"`
	// Dial is "host:port" to connect to instead of resolving the host; the certificate is still checked for the host.
	Dial string `json:"dial,omitempty"`
	// AllowPrivate lists private ranges (CIDR) that the hosts may resolve to. Default: none.
	AllowPrivate []string `json:"allowPrivate,omitempty"`
	// Refused says how this SaaS refuses a credential when it is not a 401.
	Refused *Refused `json:"refused,omitempty"`
	// Operation is how to read what a request does where method and path do not tell, so that rules can name operations: aws (at hosts of AWS), s3 (the S3 API at a host of one's own), graphql, jsonrpc (and MCP) or form (the value of OperationField). At most 64 KiB of a body are read for it. Default: rules name no operations.
	Operation string `json:"operation,omitempty"`
	// OperationField is the field of a form or JSON body, or of a query, that names the operation; with operation: form only, and required there.
	OperationField string `json:"operationField,omitempty"`
	// BodyCredentials lists fields of a form or JSON body in which this SaaS takes a credential (Slack: token); a request with a credential of egret that has one is refused. Default: none.
	BodyCredentials []string `json:"bodyCredentials,omitempty"`
}

// DestinationTLS holds the upstream trust of a destination.
type DestinationTLS struct {
	// Roots is a PEM file with the only roots that are trusted for this destination, relative to the policy file.
	Roots string `json:"roots"`
}

// Refused recognises a refused credential in the head of an answer and at most the first 512 bytes of its body. At least one of json and errorCodes is set; where both are, either is enough.
type Refused struct {
	// JSON maps top-level members of a JSON answer of any status to the values (or lists of values) that together mean "refused".
	JSON map[string][]string `json:"json,omitempty"`
	// ErrorCodes are names of errors as AWS, and stores that speak S3, write them in answers with a status from 400 to 499: in Code of an XML error, in __type or code of a JSON one, or in the header x-amzn-errortype. Name only those that new keys can put right: ExpiredToken, not AccessDenied.
	ErrorCodes []string `json:"errorCodes,omitempty"`
}

// Credential says how to get a token, how to put it in, and the only places it may ever go.
type Credential struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Metadata   Meta           `json:"metadata"`
	Spec       CredentialSpec `json:"spec"`
}

// CredentialSpec describes a credential.
type CredentialSpec struct {
	// Owner answers for the credential. Required.
	Owner string `json:"owner"`
	// Environment must be that of the workloads that use it. Required.
	Environment string `json:"environment"`
	// Destinations are the only ones it may ever be sent to; each must be intercepted and get an entry of inject. Required.
	Destinations []string `json:"destinations"`
	// UsableBy lists workloads by name, or SPIFFE ID patterns (* for a segment, a trailing /** for the rest). A workload from a source with a scope is included by its SPIFFE ID only, since a name can be taken by any author. Required.
	UsableBy []string `json:"usableBy"`
	// Provider is how it is got: exactly one member is set.
	Provider Provider `json:"provider"`
	// Inject is how it is put in: one or more entries. May be absent where the provider gives a client certificate.
	Inject []Inject `json:"inject"`
	// As is egret: log in with egret's own identity instead of the caller's; only where the provider logs in with an SVID. Default: the caller's.
	As string `json:"as,omitempty"`
	// TTL is used when the issuer tells no lifetime, 1s to 24h. Default: 1h. Static values are re-read when their file changes, too.
	TTL string `json:"ttl,omitempty"`
}

// Provider is a union: exactly one member is set.
type Provider struct {
	Static *StaticProvider `json:"static,omitempty"`
	OAuth2 *OAuth2Provider `json:"oauth2,omitempty"`
	AWS    *AWSProvider    `json:"aws,omitempty"`

	Google    *GoogleProvider    `json:"google,omitempty"`
	Azure     *AzureProvider     `json:"azure,omitempty"`
	Anthropic *AnthropicProvider `json:"anthropic,omitempty"`
	OpenAI    *OpenAIProvider    `json:"openai,omitempty"`
	JWT       *JWTProvider       `json:"jwt,omitempty"`
	MTLS      *MTLSProvider      `json:"mtls,omitempty"`

	Kubernetes *KubernetesProvider `json:"kubernetes,omitempty"`
	Exec       *ExecProvider       `json:"exec,omitempty"`
	Vault      *VaultProvider      `json:"vault,omitempty"`
	GitHub     *GitHubProvider     `json:"github,omitempty"`

	Slack      *SlackProvider      `json:"slack,omitempty"`
	Salesforce *SalesforceProvider `json:"salesforce,omitempty"`
	Snowflake  *SnowflakeProvider  `json:"snowflake,omitempty"`
}

// SecretSource is where a secret is: exactly one member is set. Never the secret itself.
type SecretSource struct {
	// File is a path, relative to the policy file; trailing newlines are cut. Followed when it changes.
	File string `json:"file,omitempty" file:"yes"`
	// SystemdCredential is a name in $CREDENTIALS_DIRECTORY of egret's unit (LoadCredential=).
	SystemdCredential string `json:"systemdCredential,omitempty"`
	// Env is a variable of egret's own environment; must be allowed by the node (secrets.allowEnv).
	Env string `json:"env,omitempty"`
}

// Inject is one place that the value goes: exactly one of Header, Query, Basic and SigV4 is set.
type Inject struct {
	// Header is set to Value.
	Header string `json:"header,omitempty"`
	// Value is a template of what the provider gives: {token}, or its other values. Required with header and query. A header's value may also be constant (a tenant that policy decides), where another entry carries the credential.
	Value string `json:"value,omitempty"`
	// Basic sets Authorization: Basic with this user name, which may be {username}, and the token as password.
	Basic string `json:"basic,omitempty"`
	// Query sets this query parameter to Value; the last resort, since URLs are logged.
	Query string `json:"query,omitempty"`
	// SigV4 signs the request with the AWS keys that the provider gives.
	SigV4 *SigV4 `json:"sigv4,omitempty"`
	// Remove lists further request headers to delete.
	Remove []string `json:"remove,omitempty"`
	// Destinations limits the entry to some of the credential's destinations. Default: all.
	Destinations []string `json:"destinations,omitempty"`
}

// AccessPolicy is the governed object: this workload may do these operations at this
// destination with this credential, owned by X until Y.
type AccessPolicy struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Metadata   Meta             `json:"metadata"`
	Spec       AccessPolicySpec `json:"spec"`
}

// AccessPolicySpec describes a grant.
type AccessPolicySpec struct {
	// Owner answers for the grant. Required.
	Owner string `json:"owner"`
	// Workload is the name of the one that may. Required. The policy is of its environment.
	Workload string `json:"workload"`
	// Destination is the name of where it may go. Required.
	Destination string `json:"destination"`
	// Credential is the name of one, or "none": forwarded without any. Must be absent for intercept: never.
	Credential string `json:"credential,omitempty"`
	// Allow lists the operations. Required, except for intercept: never, where it must be absent.
	Allow []Allow `json:"allow,omitempty"`
	// Expires is a date; the grant ends with that day, UTC. Required.
	Expires string `json:"expires"`
	// ReviewBy is a date at or before Expires.
	ReviewBy string `json:"reviewBy,omitempty"`
	// Mode is enforce (default) or observe: forward with the caller's own headers and record the verdict that enforce would give. observe not in a source with a scope.
	Mode string `json:"mode,omitempty"`
	// Upgrade lists protocols that an Upgrade may ask for, lower case. Default: [websocket]; [] for none.
	Upgrade *[]string `json:"upgrade,omitempty"`
	// AllowHeaders lists request headers that pass although egret removes them by default (never credential headers). Not in a source with a scope. Default: none.
	AllowHeaders []string `json:"allowHeaders,omitempty"`
	// Responses relaxes what is removed from responses, which a source with a scope may not, or masks more. Default: nothing passes, nothing is masked.
	Responses *Responses `json:"responses,omitempty"`
	// AllowQuery lists query parameters that pass although they choose an identity or a tenant (sudo, userProject) or have names that credentials have, too (sig, password). Not in a source with a scope. Default: none.
	AllowQuery []string `json:"allowQuery,omitempty"`
	// Minting lists calls that hand out a fresh secret and are granted all the same, by their ids in the built-in list. Not in a source with a scope. Default: none.
	Minting []string `json:"minting,omitempty"`
	// MaxStream ends upgraded connections and streams after this long. Default and maximum: the node's limit.
	MaxStream string `json:"maxStream,omitempty"`
}

// Allow is a set of operations: every method with every path.
type Allow struct {
	// Methods are upper case; HEAD is not implied by GET. CONNECT, TRACE and TRACK are always refused. Required.
	Methods []string `json:"methods"`
	// Paths are literal, * stands for one segment that is not empty, a trailing /** for the rest: /a/** is all below /a/, and not /a itself. Required.
	Paths []string `json:"paths"`
	// Operations narrow the entry to what the destination's extractor reads: s3:GetObject, query:repository, tools/call:search. A * at the end, behind a colon or a slash, stands for the rest: s3:Get*. A request that does several things needs a grant for each. Default: any.
	Operations []string `json:"operations,omitempty"`
	// Encoded matches on raw segments, for APIs with %2F inside a segment (GitLab projects, object keys).
	Encoded bool `json:"encoded,omitempty"`
}

// Responses says what passes of a response on a credentialed route, and what is masked.
type Responses struct {
	// SetCookie lets Set-Cookie pass.
	SetCookie bool `json:"setCookie,omitempty"`
	// WWWAuthenticate lets WWW-Authenticate pass.
	WWWAuthenticate bool `json:"wwwAuthenticate,omitempty"`
	// Mask overwrites the credential in bodies with asterisks, in case the SaaS sends it back: as it is, and as JSON and URLs write it. Best effort: not in other encodings, and not in WebSockets. Bodies are asked for uncompressed; a compressed one is refused. A source with a scope may set it, too.
	Mask bool `json:"mask,omitempty"`
}
