// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package ops holds the two small HTTP servers of an egret that are not the data path:
// Metrics, which says how egret is and changes nothing, and Admin, a unix socket over
// which state is changed by peers whose uid the kernel vouches for (MUST P2, P5). What
// the admin calls do is registered by the program; this package decides who may call,
// and has every call recorded.
package ops

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of both servers. They serve a scraper, a kubelet and a person.
const (
	maxConns       = 64
	maxHeaderBytes = 8 << 10
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = time.Minute
	idleTimeout    = time.Minute
)

// Server is an http.Server with bounds. Make one with NewServer.
type Server struct{ http *http.Server }

// NewServer makes a server for h. A nil logger is silent.
func NewServer(h http.Handler, logger *slog.Logger) *Server {
	return &Server{&http.Server{
		Handler:           h,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(orSilent(logger).Handler(), slog.LevelWarn),
		// Otherwise net/http answers OPTIONS * before h.
		DisableGeneralOptionsHandler: true,
	}}
}

func orSilent(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// Serve answers on ln, with at most 64 connections at a time, until Shutdown (then it
// returns nil) or an error of ln. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	err := s.http.Serve(newLimited(ln, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting, lets running requests end until ctx does, and then cuts
// them off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// limited is a listener that has at most so many connections open. x/net/netutil's
// hides the connection, whose peer Admin has to ask the kernel about.
type limited struct {
	net.Listener
	places chan struct{}
	done   chan struct{}
	close  func() error
}

func newLimited(ln net.Listener, n int) *limited {
	l := &limited{Listener: ln, places: make(chan struct{}, n), done: make(chan struct{})}
	l.close = sync.OnceValue(func() error {
		close(l.done)
		return ln.Close()
	})
	return l
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: c, free: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *limited) Close() error { return l.close() }

type limitedConn struct {
	net.Conn
	free func()
}

func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
