// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import "errors"

// toolsCall is the one method of MCP whose meaning is in a parameter.
const toolsCall = "tools/call"

// readJSONRPC returns the method of a JSON-RPC 2.0 request or notification; of MCP's
// tools/call with the tool's name. An answer to the server, as MCP clients send too, has
// no method and so no result.
func readJSONRPC(r *Request) ([]string, error) {
	if r.Method != "POST" {
		return nil, errors.New("JSON-RPC is read from POST only")
	}
	query, err := parsePairs(r.Query)
	if err != nil {
		return nil, err
	}
	if err := absent(query, "jsonrpc", "method", "params", "id"); err != nil {
		return nil, err
	}
	if _, err := wantType(r.Header, typeJSON, "application/json-rpc"); err != nil {
		return nil, err
	}
	v, err := jsonBody(r.Body)
	if err != nil {
		return nil, err
	}
	if err := v.onlyMembers("jsonrpc", "method", "params", "id"); err != nil {
		return nil, err
	}
	return rpcMethod(r, v)
}

func rpcMethod(r *Request, v jsonValue) ([]string, error) {
	version, err := v.member("jsonrpc")
	if err != nil || version.kind != jsonString || version.text != "2.0" {
		return nil, errors.New("the body is not JSON-RPC 2.0")
	}
	method, err := v.member("method")
	if err != nil || method.kind != jsonString || !nameOf(method.text, "-_./$") {
		return nil, errors.New("the name of the method is missing, or has bytes other than letters, digits and dashes, underscores, full stops, slashes and dollars")
	}
	if err := agrees(r, "Mcp-Method", method.text); err != nil {
		return nil, err
	}
	if method.text != toolsCall {
		return one(method.text)
	}
	return toolName(r, v)
}

func toolName(r *Request, v jsonValue) ([]string, error) {
	params, err := v.member("params")
	if err != nil || params.kind != jsonObject {
		return nil, errors.New("tools/call has no parameters")
	}
	name, err := params.member("name")
	if err != nil || name.kind != jsonString || !nameOf(name.text, "-_./:") {
		return nil, errors.New("the name of the tool is missing or ambiguous, or has bytes other than letters, digits, -_./ and colons")
	}
	if err := agrees(r, "Mcp-Name", name.text); err != nil {
		return nil, err
	}
	return one(toolsCall + ":" + name.text)
}

// agrees refuses a header that repeats what the body says and says something else: a
// gateway may route by it.
func agrees(r *Request, header, want string) error {
	v, err := only(r.Header, header)
	if err == nil && v != "" && v != want {
		err = errors.New("a header contradicts the body")
	}
	return err
}
