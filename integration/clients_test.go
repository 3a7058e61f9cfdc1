// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

// client is one program or library, told nothing but what egret exec sets.
type client struct {
	name string
	argv []string // {} is the target
	// needs are the variables of egret exec that it reads. The tests prove that no other
	// is needed, and that without its trust variable it refuses.
	needs []string
	proto string // what reaches the SaaS

	good, bad string   // targets; default: of the REST API
	answer    string   // part of the output of a good call
	refusal   []string // parts of the output of a refused one; default: status and header
	seen      []string // what of a refusal the client sees, for the table; default: the status and Egret-Decision
	host      string   // of good
	requests  int      // of a good call; default 1
	placehold string   // variable that must hold something for the client to start
	silent    bool     // GnuTLS: it looks at the certificate after the handshake, and leaves without a word
	remark    string   // for the table
}

const (
	restGood, restBad = "https://api.qase.io/v1/project", "https://api.qase.io/v1/user"
	echoGood, echoBad = "https://echo.egret.test/public/x", "https://echo.egret.test/private/x"
	wsGood, wsBad     = "wss://echo.egret.test/ws", "wss://echo.egret.test/private/ws"
	grpcTarget        = "echo.egret.test:443"
	grpcService       = "/grpc.testing.TestService/"
	python            = "/usr/bin/python3"
)

// openSSL is for runtimes that read the usual two.
func openSSL() []string { return []string{"HTTPS_PROXY", "SSL_CERT_FILE"} }

func clients() []client {
	var all []client
	for _, group := range [][]client{commandClients(), pythonClients(), scriptClients(), compiledClients(), grpcClients(), webSocketClients()} {
		all = append(all, group...)
	}
	return all
}

func commandClients() []client {
	git := client{name: "git clone", silent: true, needs: []string{"HTTPS_PROXY", "GIT_SSL_CAINFO"}, proto: "HTTP/2.0",
		argv: []string{"sh", "-c", `git clone -q "$0" clone && cat clone/README`, "{}"},
		good: "https://github.com/acme/app.git", bad: "https://github.com/other/app.git", host: "github.com", requests: 3,
		answer: "hello from the repository", refusal: []string{"error: 403"}, seen: []string{"403"}, remark: "the credential goes in as Basic, as GitHub wants it"}
	push := git
	push.name, push.requests, push.answer = "git push", 5, "pushed"
	push.argv = []string{"sh", "-c", `git clone -q "$0" clone && cd clone && date >now && git add now &&
		git -c user.name=x -c user.email=x@egret.test commit -q -m more && git push -q "$0" HEAD:work-$$ && echo pushed`, "{}"}
	return []client{
		{name: "curl, HTTP/1.1", argv: []string{"curl", "-sSi", "--http1.1", "{}"}, needs: []string{"HTTPS_PROXY", "CURL_CA_BUNDLE"}, proto: "HTTP/1.1"},
		{name: "curl, HTTP/2", argv: []string{"curl", "-sSi", "--http2", "{}"}, needs: []string{"HTTPS_PROXY", "SSL_CERT_FILE"}, proto: "HTTP/2.0"},
		{name: "wget", argv: []string{"wget", "-nv", "-S", "-O", "-", "{}"}, needs: []string{"https_proxy", "WGETRC"}, proto: "HTTP/1.1", silent: true, remark: "where you have a wgetrc of your own: `--ca-certificate=\"$SSL_CERT_FILE\"`"},
		git, push,
		{name: "gh", argv: []string{"gh", "api", "-i", "{}"}, needs: openSSL(), proto: "HTTP/2.0", good: "user", bad: "orgs/acme/members",
			host: "api.github.com", answer: "acme-bot", placehold: "GH_TOKEN", remark: "wants a token: `GH_TOKEN=egret-placeholder`, which egret replaces"},
	}
}

func pythonClients() []client {
	get := func(name, file, proto string, needs ...string) client {
		return client{name: name, argv: []string{python, "{dir}/" + file, "{}"}, needs: needs, proto: proto}
	}
	httpx2 := get("Python httpx, HTTP/2", "get_httpx.py", "HTTP/2.0", openSSL()...)
	httpx2.argv = append(httpx2.argv, "h2")
	httpx1 := get("Python httpx, HTTP/1.1", "get_httpx.py", "HTTP/1.1", openSSL()...)
	httpx1.argv = append(httpx1.argv, "h1")
	boto := get("Python boto3", "get_boto3.py", "HTTP/1.1", "HTTPS_PROXY", "AWS_CA_BUNDLE")
	boto.good, boto.bad, boto.host, boto.answer = "reports", "payroll", "s3.amazonaws.com", "/reports/night.json"
	boto.remark = "unsigned requests"
	return []client{
		get("Python urllib", "get_urllib.py", "HTTP/1.1", "https_proxy", "SSL_CERT_FILE"),
		get("Python requests", "get_requests.py", "HTTP/1.1", "HTTPS_PROXY", "REQUESTS_CA_BUNDLE"),
		httpx1, httpx2,
		get("Python aiohttp", "get_aiohttp.py", "HTTP/1.1", "https_proxy", "SSL_CERT_FILE"),
		boto,
	}
}

func scriptClients() []client {
	return []client{
		{name: "Node axios", argv: []string{"node", "{dir}/get_axios.mjs", "{}"}, needs: []string{"HTTPS_PROXY", "NODE_EXTRA_CA_CERTS"}, proto: "HTTP/1.1"},
		{name: "Node undici EnvHttpProxyAgent", argv: []string{"node", "{dir}/get_undici.mjs", "{}"}, needs: []string{"HTTPS_PROXY", "NODE_EXTRA_CA_CERTS"}, proto: "HTTP/1.1"},
		{name: "Ruby open-uri", argv: []string{"ruby", "{dir}/open_uri.rb", "{}"}, needs: []string{"https_proxy", "SSL_CERT_FILE"}, proto: "HTTP/1.1"},
		{name: "Ruby Net::HTTP", argv: []string{"ruby", "{dir}/net_http.rb", "{}"}, needs: []string{"http_proxy", "SSL_CERT_FILE"}, proto: "HTTP/1.1"},
		{name: "PHP curl", argv: []string{"php", "{dir}/get_curl.php", "{}"}, needs: []string{"HTTPS_PROXY", "PHP_INI_SCAN_DIR"}, proto: "HTTP/2.0"},
	}
}

func compiledClients() []client {
	return []client{
		{name: "Java HttpClient, HTTP/1.1", argv: []string{"java", "-XX:TieredStopAtLevel=1", "{dir}/Get.java", "{}", "HTTP_1_1"}, needs: []string{"JAVA_TOOL_OPTIONS"}, proto: "HTTP/1.1"},
		{name: "Java HttpClient, HTTP/2", argv: []string{"java", "-XX:TieredStopAtLevel=1", "{dir}/Get.java", "{}", "HTTP_2"}, needs: []string{"JAVA_TOOL_OPTIONS"}, proto: "HTTP/2.0"},
		{name: "Go net/http", argv: []string{"{go}", "http", "{}"}, needs: openSSL(), proto: "HTTP/2.0"},
	}
}

func grpcClients() []client {
	grpc := func(name, method string, argv []string, needs ...string) client {
		return client{name: name, argv: argv, needs: needs, proto: "HTTP/2.0", good: method, bad: "CacheableUnaryCall", host: "echo.egret.test",
			answer: "status: OK", refusal: []string{"PermissionDenied", "policy; reason=path_not_allowed"}, seen: []string{"PERMISSION_DENIED", "Egret-Decision"}}
	}
	goUnary := grpc("grpc-go, unary", grpcService+"UnaryCall", []string{"{go}", "grpc", grpcTarget, "{}"}, openSSL()...)
	goBidi := grpc("grpc-go, bidirectional", grpcService+"FullDuplexCall", []string{"{go}", "grpc", grpcTarget, "{}"}, openSSL()...)
	goUnary.bad, goBidi.bad = grpcService+"CacheableUnaryCall", grpcService+"HalfDuplexCall"
	pyUnary := grpc("grpcio (C core), unary", grpcService+"EmptyCall", []string{python, "{dir}/call_grpcio.py", grpcTarget, "{}", "unary"}, "https_proxy", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
	pyBidi := grpc("grpcio (C core), bidirectional", grpcService+"FullDuplexCall", []string{python, "{dir}/call_grpcio.py", grpcTarget, "{}", "stream"}, "https_proxy", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
	pyUnary.bad, pyBidi.bad = grpcService+"CacheableUnaryCall", grpcService+"HalfDuplexCall"
	pyUnary.refusal[0], pyBidi.refusal[0] = "PERMISSION_DENIED", "PERMISSION_DENIED"
	curl := grpc("grpcurl, by reflection", "grpc.testing.TestService/UnaryCall", []string{"grpcurl", "-v", "-d", `{"payload":{"body":"aGVsbG8="}}`, grpcTarget, "{}"}, openSSL()...)
	curl.bad, curl.answer, curl.requests = "grpc.testing.TestService/CacheableUnaryCall", "aGVsbG8=", 2
	return []client{goUnary, goBidi, pyUnary, pyBidi, curl}
}

func webSocketClients() []client {
	ws := func(name string, argv []string, needs ...string) client {
		return client{name: name, argv: argv, needs: needs, proto: "HTTP/1.1", good: wsGood, bad: wsBad, host: "echo.egret.test", answer: "echo: hello"}
	}
	return []client{
		ws("WebSocket, coder/websocket", []string{"{go}", "ws", "{}"}, openSSL()...),
		ws("WebSocket, Node ws", []string{"node", "{dir}/ws.mjs", "{}"}, "HTTPS_PROXY", "NODE_EXTRA_CA_CERTS"),
	}
}

// withDefaults fills in what most clients have in common.
func (c client) withDefaults() client {
	if c.good == "" {
		c.good, c.bad, c.host, c.answer = restGood, restBad, "api.qase.io", `"WEB"`
	}
	if c.requests == 0 {
		c.requests = 1
	}
	if c.refusal == nil {
		c.refusal = []string{"403", "policy; reason=path_not_allowed"}
	}
	if c.seen == nil {
		c.seen = []string{"403", "Egret-Decision"}
	}
	return c
}
