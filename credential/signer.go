// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"net/http"

	"github.com/egret-proxy/egret/internal/secret"
)

// Signer puts a credential into a request by signing it as a whole, where no template
// can (AWS SigV4). It is made from configuration alone and has no state: several
// requests are signed at once.
type Signer interface {
	// Sign signs r, whose URL, Host and headers are final and already cleaned of the
	// caller's own credentials by name; Headers of the signature that r still has are the
	// caller's. It is the last header operation. r is egret's own copy: its headers may be
	// changed and its Body replaced by a reader of the same length. values are those of
	// the provider. An error refuses the request; ErrCallerSignature where the caller is
	// at fault.
	Sign(r *http.Request, values map[string]secret.Secret) error
	// Headers returns the canonical names of all headers that Sign sets or deletes, so
	// that the data path can treat the caller's own as credentials (MUST H2).
	Headers() []string
}
