// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package job is the nightly job of the example: it reads last night's test run from
// Qase and posts a summary to Slack. It is ordinary code. It uses net/http and nothing
// else, has no token, and knows nothing of egret: HTTPS_PROXY and SSL_CERT_FILE, which
// every Go program honours, are enough.
package job

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	qase    = "https://api.qase.io/v1"
	slack   = "https://slack.com/api"
	channel = "#qa"
)

// Report is the whole job. It prints what it did.
func Report(ctx context.Context) error {
	var projects page[struct{ Title, Code string }]
	if err := get(ctx, qase+"/project", &projects); err != nil {
		return err
	}
	for _, p := range projects.Result.Entities {
		run, err := latestRun(ctx, p.Code)
		if err != nil {
			return err
		}
		sum, err := summarise(ctx, p.Code, run.ID)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s, %s: %s", p.Title, run.Title, sum)
		fmt.Println("read from Qase: ", text)
		if err := post(ctx, text); err != nil {
			return err
		}
		fmt.Println("posted to Slack:", channel)
	}
	return nil
}

type run struct {
	ID    int
	Title string
}

func latestRun(ctx context.Context, project string) (run, error) {
	var runs page[run]
	if err := get(ctx, qase+"/run/"+project+"?limit=1", &runs); err != nil {
		return run{}, err
	}
	if len(runs.Result.Entities) == 0 {
		return run{}, fmt.Errorf("project %q has no run", project)
	}
	return runs.Result.Entities[0], nil
}

// post sends one message. Slack answers 200 even when it refuses.
func post(ctx context.Context, text string) error {
	body, err := json.Marshal(map[string]string{"channel": channel, "text": text})
	if err != nil {
		return err
	}
	var answer struct {
		OK    bool
		Error string
	}
	if err := call(ctx, http.MethodPost, slack+"/chat.postMessage", body, &answer); err != nil {
		return err
	}
	if !answer.OK {
		return fmt.Errorf("slack refused the message: %s", answer.Error)
	}
	return nil
}

func get(ctx context.Context, url string, into any) error {
	return call(ctx, http.MethodGet, url, nil, into)
}

// call sends a request and decodes the answer.
func call(ctx context.Context, method, url string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(req, resp, answer)
	}
	return json.Unmarshal(answer, into)
}

// refusal says what went wrong. A proxy that refuses says why in the header
// Egret-Decision, so that nobody looks for the fault in this code.
func refusal(req *http.Request, resp *http.Response, body []byte) error {
	what := fmt.Sprintf("%s %s: %s", req.Method, req.URL.Redacted(), resp.Status)
	if d := resp.Header.Get("Egret-Decision"); d != "" {
		what += "\n  " + concern(d) + ": " + d
	}
	return fmt.Errorf("%s\n  %s", what, bytes.TrimSpace(body))
}

// concern says whom the layer that refused belongs to.
func concern(decision string) string {
	layer, _, _ := strings.Cut(decision, ";")
	switch layer {
	case "identity", "policy", "target", "credential":
		return "this is about access, not about code"
	case "upstream", "upstream-auth":
		return "this is about the network or the service, not about code"
	}
	return "the proxy says"
}
