// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package origin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ask(o *Origin, path string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header["Authorization"] = authorization
	w := httptest.NewRecorder()
	o.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	o := New("right")
	for _, c := range []struct {
		name, path    string
		authorization []string
		status, bytes int
	}{
		{"credential", "/v1/area-0/1024", []string{"Bearer right"}, 200, 1024},
		{"more than one chunk", "/200000", []string{"Bearer right"}, 200, 200000},
		{"nothing", "/v1/0", []string{"Bearer right"}, 200, 0},
		{"no credential", "/v1/1024", nil, 401, -1},
		{"another credential", "/v1/1024", []string{"Bearer wrong"}, 401, -1},
		{"two credentials", "/v1/1024", []string{"Bearer right", "Bearer right"}, 401, -1},
		{"no number", "/v1/x", []string{"Bearer right"}, 400, -1},
		{"too much", "/v1/99999999999", []string{"Bearer right"}, 400, -1},
	} {
		w := ask(o, c.path, c.authorization...)
		if w.Code != c.status || c.bytes >= 0 && w.Body.Len() != c.bytes {
			t.Errorf("%s: %d with %d bytes, want %d with %d", c.name, w.Code, w.Body.Len(), c.status, c.bytes)
		}
	}
	var got Counts
	if err := json.NewDecoder(ask(o, CountsPath, "Bearer right").Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Counts{Answered: 3, Refused: 3}, got); d != "" {
		t.Error(d)
	}
}
