// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/egret-proxy/egret/internal/secret"
)

// maxSlackBody bounds the body of a call, in bytes.
const maxSlackBody = 1 << 20

// slackRequest is one call as Slack understands it.
type slackRequest struct {
	args      map[string]string
	token     string
	where     string // header, form or ""
	formToken bool
	warning   string
	fault     string // an error code of the request's form, found before the method runs
}

func (r *slackRequest) fingerprint() string { return secret.New(r.token).Fingerprint() }

// readSlackRequest reads arguments and token. Arguments may be in the query, in a form
// or in a JSON object. The token may be a Bearer token or the form field "token"; not
// the query (since 2021) and not a JSON member.
func readSlackRequest(w http.ResponseWriter, r *http.Request) *slackRequest {
	req := &slackRequest{args: map[string]string{}}
	first(req.args, r.URL.Query())
	delete(req.args, "token")
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSlackBody))
		if err != nil {
			req.fault = "request_timeout" // documented as "data was either missing or truncated"
		} else {
			req.readBody(r.Header.Get("Content-Type"), body)
		}
	}
	req.readToken(r.Header.Get("Authorization"))
	return req
}

// readBody reads the arguments of a POST by its type.
func (r *slackRequest) readBody(contentType string, body []byte) {
	if contentType == "" {
		if len(body) > 0 {
			r.fault = "missing_post_type"
		}
		return
	}
	kind, params, err := mime.ParseMediaType(contentType)
	charset := strings.ToLower(params["charset"])
	switch {
	case err != nil:
		r.fault = "invalid_post_type"
	case charset != "" && charset != "utf-8" && charset != "iso-8859-1":
		r.fault = "invalid_charset"
	case kind == "application/json":
		if charset == "" {
			r.warning = "missing_charset"
		}
		r.readJSON(body)
	case kind == "application/x-www-form-urlencoded":
		r.readForm(body)
	default: // multipart is for files only, which the twin has no method for
		r.fault = "invalid_post_type"
	}
}

func (r *slackRequest) readForm(body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		r.fault = "invalid_form_data"
		return
	}
	first(r.args, form)
	r.formToken = form.Has("token")
}

// readJSON keeps strings as they are and everything else as JSON text, which is how
// forms carry blocks and attachments.
func (r *slackRequest) readJSON(body []byte) {
	if len(body) == 0 {
		return
	}
	if !json.Valid(body) {
		r.fault = "invalid_json"
		return
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object == nil {
		r.fault = "json_not_object"
		return
	}
	for name, raw := range object {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		r.args[name] = s
	}
	delete(r.args, "token")
}

// readToken takes the header first, then the form.
func (r *slackRequest) readToken(authorization string) {
	form := r.args["token"]
	delete(r.args, "token")
	if token := bearer(authorization); token != "" {
		r.token, r.where = token, "header"
	} else if form != "" {
		r.token, r.where = form, "form"
	}
}

// first keeps the first value of each name.
func first(args map[string]string, values url.Values) {
	for name, v := range values {
		args[name] = v[0]
	}
}

// bearer returns the token of an Authorization header, or "" if it is of another scheme.
func bearer(authorization string) string {
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
