// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package origin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/bench/internal/echo"
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

func TestTakesBodies(t *testing.T) {
	o := New("right")
	for _, size := range []int{1, 200000} {
		r := httptest.NewRequest(http.MethodPost, "/v1/3", strings.NewReader(strings.Repeat("x", size)))
		r.Header.Set("Authorization", "Bearer right")
		w := httptest.NewRecorder()
		o.ServeHTTP(w, r)
		if got := w.Result().Header.Get(ReceivedHeader); w.Code != 200 || got != strconv.Itoa(size) || w.Body.Len() != 3 {
			t.Errorf("%d with %d bytes, %s of %d received", w.Code, w.Body.Len(), got, size)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/v1/3", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	r.Header.Set("Authorization", "Bearer right")
	o.ServeHTTP(httptest.NewRecorder(), r)
	if got := o.counts().Answered; got != 2 {
		t.Errorf("%d requests were answered, the last of which broke off", got)
	}
}

// TestStreamsAreBounded: what a call asks for is checked, as paths are.
func TestStreamsAreBounded(t *testing.T) {
	o := New("right")
	for _, c := range []struct {
		times []string
		want  codes.Code
	}{{nil, codes.InvalidArgument}, {[]string{"1", "2"}, codes.InvalidArgument}, {[]string{"x"}, codes.InvalidArgument}, {[]string{"0"}, codes.InvalidArgument},
		{[]string{"99999999"}, codes.InvalidArgument}, {[]string{"3"}, codes.OK}} {
		md := metadata.MD{"authorization": {"Bearer right"}, echo.TimesHeader: c.times}
		s := &sent{ctx: metadata.NewIncomingContext(t.Context(), md)}
		if err := (echoServer{o}).Stream(&echo.Message{}, s); status.Code(err) != c.want || err == nil && s.n != 3 {
			t.Errorf("%q: %v, %d messages", c.times, err, s.n)
		}
	}
	if err := (echoServer{o}).Stream(&echo.Message{}, &sent{ctx: t.Context()}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without the credential: %v", err)
	}
}

// sent counts what a stream is given.
type sent struct {
	grpc.ServerStream
	ctx context.Context
	n   int
}

func (s *sent) Context() context.Context { return s.ctx }

func (s *sent) SendMsg(any) error {
	s.n++
	return nil
}
