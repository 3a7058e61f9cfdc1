// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package h1 carries requests over one HTTP/1.1 connection of a client. The goroutine
// that asks writes the request and reads the answer; net/http's client has two goroutines
// per connection for that. Only a request with a body has a second goroutine, which
// writes the body, since an answer may come before its end.
//
// It dials nothing, pools nothing, follows nothing, unpacks nothing and knows nothing of
// TLS. It refuses what net/http refuses of an answer, and what RFC 9112 allows a
// recipient to refuse besides, where two readers could differ about it: see h1test.Strict
// for the whole list. A connection on which anything is odd is closed behind the answer.
//
// It does not switch protocols: an answer with status 101 is returned without the connection.
package h1
