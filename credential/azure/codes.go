// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
)

// refused words Entra's refusal: the number of its error and what to do about the common
// ones. Its own description quotes the assertion's claims and is never told.
func refused(a *issuer.Answer) error {
	err := exchange.Refused(a)
	code := codeOf(a)
	if code == 0 {
		return issuer.Within("Entra", err)
	}
	where := fmt.Sprintf("Entra AADSTS%d", code)
	if hint := hintFor(code); hint != "" {
		where += " (" + hint + ")"
	}
	err = issuer.Within(where, err)
	if e, ok := errors.AsType[*credential.Error](err); ok && transient(code) {
		e.Kind = credential.Unreachable
	}
	return err
}

// codeOf reads the first of error_codes, 0 where there is none.
func codeOf(a *issuer.Answer) int {
	o, err := a.Object()
	if err != nil {
		return 0
	}
	var codes []int
	if json.Unmarshal(o["error_codes"], &codes) != nil || len(codes) == 0 {
		return 0
	}
	const least, most = 10_000, 99_999_999 // five to eight digits; nothing else is one
	if codes[0] < least || codes[0] > most {
		return 0
	}
	return codes[0]
}

// transient codes pass by themselves.
func transient(code int) bool {
	switch code {
	case 90006, 90033, 90036, 50196: // external server, transient error, key cache, loop detected
		return true
	}
	return false
}

// hintFor says what to change. The texts are ours; Microsoft's documentation of the codes
// is at login.microsoftonline.com/error.
func hintFor(code int) string {
	switch code {
	case 700211:
		return "no federated credential has the SVID's issuer: it must equal SPIRE's jwt_issuer"
	case 700212:
		return "no federated credential has the SVID's audience: set assertionAudience to the one that it has"
	case 700213, 70021:
		return "no federated credential has the SVID's subject: it must equal the SPIFFE ID, without wildcards; a new one takes minutes to be known"
	case 700016:
		return "the tenant has no application with this clientID"
	case 90002, 900023:
		return "there is no such tenant in this cloud: see tenant and authority"
	case 700024:
		return "the SVID is not valid at Entra's time: compare the clocks of SPIRE's server"
	case 700027, 50027, 50013:
		return "the SVID's signature was not accepted: SPIRE's keys must be published at the issuer's URL, and be RSA"
	case 501661, 50166:
		return "Entra cannot read the issuer's OpenID configuration or keys: they must be public"
	case 70011, 1002012, 28002:
		return "the scope must be of one resource and end in /.default"
	case 500011, 650057:
		return "the tenant does not know the resource of the scope"
	case 7000112:
		return "the application is disabled"
	case 53003, 530035:
		return "conditional access blocks it"
	}
	return ""
}
