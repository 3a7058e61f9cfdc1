// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// slackTextLimit is the length of a message above which Slack refuses it, in characters.
const slackTextLimit = 40_000

// Channel is a channel of the workspace that a Slack twin stands for.
type Channel struct {
	ID       string // C…; messages may name the ID or the name
	Name     string // without #
	Archived bool
	Left     bool // the app is not a member
}

// SlackConfig configures a Slack twin.
type SlackConfig struct {
	Tokens   Tokens           // which tokens are good
	Channels []Channel        // where messages can be posted
	Now      func() time.Time // nil: time.Now
}

// Message is one message that was posted.
type Message struct {
	Channel     string // ID
	Text        string
	TS          string // Slack's time stamp, which is the message's ID in its channel
	Fingerprint string // of the token that posted it
}

// SlackCall is one call of a method, good or refused.
type SlackCall struct {
	Method      string
	Fingerprint string // of the token; empty where there was none
	Where       string // header, form or "" : where the token was
	FormToken   bool   // the form had a token, used or not
	Error       string // "" for ok:true
}

// Slack is a twin of the Slack Web API: auth.test and chat.postMessage. A refusal is
// HTTP 200 with ok:false; only rate limits are 429.
type Slack struct {
	faults
	cfg     SlackConfig
	methods map[string]slackMethod

	mu       sync.Mutex
	seq      int
	messages []Message
	calls    []SlackCall
}

// slackMethod is one method of the Web API.
type slackMethod struct {
	scope string // needed; "" for none
	run   func(*slackRequest) (slackBody, *slackError)
}

// slackBody is the JSON answer, apart from ok.
type slackBody map[string]any

// slackError is an answer with ok:false.
type slackError struct {
	code string
	more slackBody
}

// NewSlack returns the twin.
func NewSlack(cfg SlackConfig) *Slack {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Slack{cfg: cfg}
	s.methods = map[string]slackMethod{
		"auth.test":        {run: s.authTest},
		"chat.postMessage": {scope: "chat:write", run: s.postMessage},
	}
	return s
}

// Messages returns what was posted, oldest first.
func (s *Slack) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Calls returns every call of a method, oldest first.
func (s *Slack) Calls() []SlackCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// ServeHTTP implements http.Handler.
func (s *Slack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.down(w) {
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/api/")
	if !ok || name == "" {
		http.NotFound(w, r)
		return
	}
	setSlackHeaders(w)
	req := readSlackRequest(w, r)
	body, fault := s.call(w, name, req)
	s.record(name, req, fault)
	switch {
	case fault == nil:
		writeJSON(w, http.StatusOK, s.ok(req, body))
	case fault.code == "ratelimited":
		writeJSON(w, http.StatusTooManyRequests, fault.body())
	default:
		writeJSON(w, http.StatusOK, fault.body())
	}
}

func setSlackHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-Slack-Req-Id", strings.ToLower(rand.Text()))
	h.Set("Cache-Control", "private, no-cache, no-store, must-revalidate")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
}

// call runs one method: known, authenticated, not limited, in scope, well-formed.
func (s *Slack) call(w http.ResponseWriter, name string, req *slackRequest) (slackBody, *slackError) {
	m, known := s.methods[name]
	if !known {
		return nil, &slackError{"unknown_method", slackBody{"req_method": name}}
	}
	if req.fault != "" {
		return nil, &slackError{code: req.fault}
	}
	scopes, fault := s.authenticate(req.token)
	if fault != nil {
		return nil, fault
	}
	w.Header().Set("X-OAuth-Scopes", strings.Join(scopes, ","))
	if m.scope != "" {
		w.Header().Set("X-Accepted-OAuth-Scopes", m.scope)
	}
	if s.takeLimit(w) {
		return nil, &slackError{code: "ratelimited"}
	}
	if m.scope != "" && !slices.Contains(scopes, m.scope) {
		return nil, &slackError{"missing_scope", slackBody{"needed": m.scope, "provided": strings.Join(scopes, ",")}}
	}
	return m.run(req)
}

func (s *Slack) authenticate(token string) ([]string, *slackError) {
	if token == "" {
		return nil, &slackError{code: "not_authed"}
	}
	scopes, state := s.cfg.Tokens.Valid(token)
	switch state {
	case TokenLive:
		return scopes, nil
	case TokenExpired:
		return nil, &slackError{code: "token_expired"}
	case TokenRevoked:
		return nil, &slackError{code: "token_revoked"}
	}
	return nil, &slackError{code: "invalid_auth"}
}

func (s *Slack) authTest(*slackRequest) (slackBody, *slackError) {
	return slackBody{
		"url": "https://acme.slack.com/", "team": "Acme", "user": "nightly",
		"team_id": "T0ACME0001", "user_id": "U0NIGHTLY1", "bot_id": "B0NIGHTLY1",
		"is_enterprise_install": false,
	}, nil
}

func (s *Slack) postMessage(req *slackRequest) (slackBody, *slackError) {
	ch, fault := s.channel(req.args["channel"])
	if fault != nil {
		return nil, fault
	}
	text := req.args["text"]
	switch {
	case text == "" && req.args["blocks"] == "" && req.args["attachments"] == "":
		return nil, &slackError{code: "no_text"}
	case len([]rune(text)) > slackTextLimit:
		return nil, &slackError{code: "msg_too_long"}
	}
	ts := s.store(Message{Channel: ch.ID, Text: text, Fingerprint: req.fingerprint()})
	return slackBody{"channel": ch.ID, "ts": ts, "message": slackBody{
		"type": "message", "subtype": "bot_message", "text": text, "ts": ts,
		"bot_id": "B0NIGHTLY1", "team": "T0ACME0001",
	}}, nil
}

func (s *Slack) channel(arg string) (Channel, *slackError) {
	if arg == "" {
		missing := []string{"[ERROR] missing required field: channel"}
		return Channel{}, &slackError{"invalid_arguments", slackBody{"response_metadata": slackBody{"messages": missing}}}
	}
	for _, c := range s.cfg.Channels {
		switch {
		case arg != c.ID && strings.TrimPrefix(arg, "#") != c.Name:
		case c.Archived:
			return Channel{}, &slackError{code: "is_archived"}
		case c.Left:
			return Channel{}, &slackError{code: "not_in_channel"}
		default:
			return c, nil
		}
	}
	return Channel{}, &slackError{code: "channel_not_found"}
}

// store keeps a message and returns its time stamp: seconds, and a counter that makes
// it unique in its channel.
func (s *Slack) store(m Message) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	m.TS = fmt.Sprintf("%d.%06d", s.cfg.Now().Unix(), s.seq)
	s.messages = append(s.messages, m)
	return m.TS
}

func (s *Slack) record(name string, req *slackRequest, fault *slackError) {
	c := SlackCall{Method: name, Fingerprint: req.fingerprint(), Where: req.where, FormToken: req.formToken}
	if fault != nil {
		c.Error = fault.code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
}

// ok adds what every good answer has.
func (s *Slack) ok(req *slackRequest, body slackBody) slackBody {
	body["ok"] = true
	if req.warning != "" {
		body["warning"] = req.warning
		body["response_metadata"] = slackBody{"warnings": []string{req.warning}}
	}
	return body
}

func (e *slackError) body() slackBody {
	b := slackBody{"ok": false, "error": e.code}
	maps.Copy(b, e.more)
	return b
}
