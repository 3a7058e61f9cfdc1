// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1test

// Answers are whole ones, odd ones, and attempts to have them read in two ways.
func Answers() (out []string) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, rest := range []string{
		"Content-Length: 2\r\n\r\nok", "Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", "Content-Length: 3\r\n\r\nok", "\r\nuntil the end",
		"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "Content-Length: 2, 2\r\n\r\nok",
		"Content-Length: +2\r\n\r\nok", "Content-Length: -2\r\n\r\nok", "Content-Length:\r\n\r\nok", "Content-Length: 0x2\r\n\r\nok", "Content-Length: 2 2\r\n\r\nok",
		"Content-Length: 99999999999999999999\r\n\r\nok", "Content-Length: 9223372036854775808\r\n\r\nok", "Content-Length: 02\r\n\r\nok", "Content-Length: 2\x00\r\n\r\nok",
		"Content-Length : 2\r\n\r\nok", " Content-Length: 2\r\n\r\nok", "X: a\r\n Content-Length: 2\r\n\r\nok", "X: a\r\n\tb\r\n\r\nok", "X: a\nY: b\n\nok", "X: a\rY: b\r\n\r\nok",
		"X: a\x00\r\n\r\n", "X\x00: a\r\n\r\n", "X\x80: a\r\n\r\n", "X: \x80\x7f\r\n\r\n", ": a\r\n\r\n", "X\r\n\r\n", "X y: a\r\n\r\n", "X: a\r\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: Chunked\r\n\r\n2;a=b\r\nok\r\n0;x\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2 \t\r\nok\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"Transfer-Encoding: xchunked\r\n\r\n", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", "Transfer-Encoding:\r\n\r\n", "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding:\tchunked \r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\nokX\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n2;a\rb\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2;a\nb\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n-1\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n00000000000000002\r\nok\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2 ;a\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\n",
		"Transfer-Encoding: chunked\r\nTrailer: X-A, x-b,,\r\n\r\n0\r\nX-A: 1\r\nX-C: 2\r\n\r\n", "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\nX-A: 1\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\n b\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A\r\n\r\n", "Trailer: a\r\nContent-Length: 0\r\n\r\n", "Connection: close\r\nContent-Length: 0\r\n\r\n", "Connection: X-A, close\r\nX-A: 1\r\n\r\n",
		"Connection: keep-alive\r\nContent-Length: 0\r\n\r\n", "Pragma: no-cache\r\nContent-Length: 0\r\n\r\n", "Set-Cookie: a\r\nset-cookie: b\r\nSET-COOKIE: c\r\nContent-Length: 0\r\n\r\n",
	} {
		out = append(out, ok+rest)
	}
	for _, status := range []string{
		"HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.1 101 Switching Protocols", "HTTP/1.0 200 OK", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1  200 OK",
		"HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 020 OK", "HTTP/1.1 -20 OK", "HTTP/1.1 200OK", "HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "HTTP/1.10 200 OK", "HTTP/0.9 200 OK", "http/1.1 200 OK",
		"HTTP/1.1\t200 OK", "ICY 200 OK", "", " HTTP/1.1 200 OK", "HTTP/1.1 200 O\x00K", "HTTP/1.1 200 OK\r", "HTTP/1.1 200 \x80",
	} {
		out = append(out, status+"\r\nContent-Length: 2\r\n\r\nok", status+"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", status+"\r\nConnection: keep-alive\r\n\r\n")
	}
	hint := "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
	return append(out, "", "\r\n", "garbage", "\x16\x03\x01", hint, hint+hint+out[0], "HTTP/1.1 100 Continue\r\n\r\n"+out[0], "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n"+out[0],
		"HTTP/1.1 100 Continue\r\nTransfer-Encoding: x\r\n\r\n"+out[0], hint+"HTTP/1.1 +20 OK\r\n\r\n")
}
