package main

import (
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	bypassPut   = `{"key":"YnlwYXNz","value":"eA=="}`
	bypassTxn   = `{"success":[{"requestPut":{"key":"YnlwYXNz","value":"eA=="}}]}`
	bypassReads = `{"success":[{"requestRange":{"key":"YnlwYXNz"}}]}`
	bypassForm  = "Content-Type: application/x-www-form-urlencoded"

	// withV2 are the versions that serve v2.
	withV2 = "3.4 3.5"

	// As a client asks for a websocket, and for HTTP/2 (RFC 7540 section 3.2).
	toWebSocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	toHTTP2     = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
)

// request is an HTTP/1.1 request; line is the method and the target.
func request(line, body string, fields ...string) string {
	if body != "" {
		fields = append(fields, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return strings.Join(append([]string{line + " HTTP/1.1", "Host: e"}, fields...), "\r\n") + "\r\n\r\n" + body
}

// inChunks is a request whose body comes in chunks, with trailer fields.
func inChunks(line, body, trailer string, fields ...string) string {
	fields = append(fields, "Transfer-Encoding: chunked")
	return request(line, "", fields...) + fmt.Sprintf("%x;x=y\r\n%s\r\n0\r\n%s\r\n", len(body), body, trailer)
}

// frame is a websocket's message from a client (RFC 6455 section 5.2), masked
// with zeros.
func frame(text string) string {
	return "\x81" + string([]byte{0x80 | byte(len(text))}) + "\x00\x00\x00\x00" + text
}

// bypassRows are tried over HTTP/1.1.
func bypassRows() []bypassRow {
	put := func(target string) string { return request("POST "+target, bypassPut) }
	txn := func(body string) string { return request("POST /v3/kv/txn", body) }
	get := request("GET /version", "")
	rows := []bypassRow{
		{name: "a put", sends: put("/v3/kv/put"), readonly: "501", readwrite: "200"},

		// How the method is said.
		{name: "GET", sends: request("GET /v3/kv/put", bypassPut), readonly: "501"},
		{name: "HEAD", sends: request("HEAD /v3/kv/put", bypassPut), readonly: "501"},
		{name: "OPTIONS", sends: request("OPTIONS /v3/kv/put", bypassPut), readonly: "501"},
		{name: "PATCH", sends: request("PATCH /v3/kv/put", bypassPut), readonly: "501"},
		{name: "lower case", sends: request("post /v3/kv/put", bypassPut), readonly: "501"},
		{name: "mixed case", sends: request("pOSt /v3/kv/put", bypassPut), readonly: "501"},
		{name: "a method with a slash", sends: request("GET/POST /v3/kv/put", bypassPut), readonly: "400 end"},
		{name: "two methods", sends: request("GET POST /v3/kv/put", bypassPut), readonly: "400 end"},
		{name: "no method", sends: request(" /v3/kv/put", bypassPut), readonly: "400 end"},
		{name: "CONNECT to the member", sends: request("CONNECT e:2379", ""), readonly: "405 end"},
		{name: "CONNECT with a path", sends: request("CONNECT /v3/kv/put", bypassPut), readonly: "405 end"},
		{name: "connect", sends: request("connect /v3/kv/put", bypassPut), readonly: "501"},
		{name: "override", sends: request("POST /v3/kv/range", bypassPut, "X-HTTP-Method-Override: PUT"), readonly: "501"},
		{name: "override of a put by GET", sends: request("GET /v3/kv/put", bypassPut, "X-HTTP-Method-Override: POST"), readonly: "501"},
		{name: "override in lower case", sends: request("GET /version", "", "x-http-method-override: POST"), readonly: "501"},
		{name: "override in upper case", sends: request("GET /version", "", "X-HTTP-METHOD-OVERRIDE:POST"), readonly: "501"},
		{name: "override behind an empty one", sends: request("GET /version", "", "X-HTTP-Method-Override:", "X-HTTP-Method-Override: POST"), readonly: "501"},
		{name: "override named by Connection", sends: request("GET /version", "", "Connection: X-HTTP-Method-Override", "X-HTTP-Method-Override: POST"), readonly: "501"},
		{name: "override with a blank before the colon", sends: request("GET /version", "", "X-HTTP-Method-Override : POST"), readonly: "400 end"},
		{name: "override folded", sends: request("GET /version", "", "X-A: b\r\n X-HTTP-Method-Override: POST"), readonly: "400 end"},
		{name: "override of a form", sends: request("POST /v3/kv/put", bypassPut, bypassForm, "X-HTTP-Method-Override: GET"), readonly: "501"},
		{name: "override in a trailer", sends: inChunks("POST /v3/kv/range", bypassPut, "X-HTTP-Method-Override: PUT\r\n", "Trailer: X-HTTP-Method-Override"), readonly: "200", open: true},
		{name: "override in a trailer of a GET", sends: inChunks("GET /version", "x", "X-HTTP-Method-Override: PUT\r\n"), readonly: "200", open: true},
		{name: "put with trailers", sends: inChunks("POST /v3/kv/put", bypassPut, "X-A: b\r\n", "Trailer: X-A"), readonly: "501 end", readwrite: "200", open: true},

		// How the path is said.
		{name: "absolute", sends: put("http://e/v3/kv/put"), readonly: "501", readwrite: "200"},
		{name: "absolute, another host and scheme", sends: put("HTTPS://[::1]:1/v3/kv/put"), readonly: "501", readwrite: "200"},
		{name: "absolute, escaped", sends: put("http://e/v3/k%76/put"), readonly: "501", readwrite: "200"},
		{name: "absolute without a path", sends: put("http://e?/v3/kv/put"), readonly: "501"},
		{name: "absolute with a user", sends: put("http://a@e/v3/kv/put"), readonly: "400 end"},
		{name: "absolute, back slash", sends: put(`http://e\v3/kv/put`), readonly: "400 end"},
		{name: "absolute, fragment", sends: put("http://e#/v3/kv/put"), readonly: "400 end"},
		{name: "absolute, another scheme", sends: put("ftp://e/v3/kv/put"), readonly: "400 end"},
		{name: "absolute in a path", sends: put("/http://e/v3/kv/put"), readonly: "501"},
		{name: "authority form", sends: put("e:2379/v3/kv/put"), readonly: "400 end"},
		{name: "no slash before", sends: put("v3/kv/put"), readonly: "400 end"},
		{name: "escaped slash", sends: put("/v3/kv%2Fput"), readonly: "501", readwrite: "200"},
		{name: "escaped letter", sends: put("/v3/k%76/put"), readonly: "501", readwrite: "200"},
		{name: "escaped prefix", sends: put("/%763/kv/put"), readonly: "501", readwrite: "200"},
		{name: "all escaped", sends: put("/%76%33/%6b%76%2f%70%75%74"), readonly: "501", readwrite: "200"},
		{name: "escaped twice", sends: put("/v3/k%2576/put"), readonly: "501"},
		{name: "escaped badly", sends: put("/v3/kv/put%"), readonly: "400 end"},
		{name: "escaped query", sends: put("/v3/kv/put%3F/v3/kv/range"), readonly: "501"},
		{name: "escaped zero", sends: put("/v3/kv/put%00"), readonly: "501"},
		{name: "escaped line end", sends: put("/v3/kv/range%20HTTP/1.1%0d%0aX:y"), readonly: "501"},
		{name: "overlong escape of a slash", sends: put("/v3/kv%c0%afput"), readonly: "501"},
		{name: "full-width slash", sends: put("/v3/kv\uff0fput"), readonly: "501"},
		{name: "dots", sends: put("/v2/../v3/kv/put"), readonly: "501"},
		{name: "dots behind a read", sends: put("/v3/kv/range/../put"), readonly: "501"},
		{name: "dots escaped", sends: put("/v3/kv/range/%2e%2e/put"), readonly: "501"},
		{name: "dots and slashes escaped", sends: put("/v3/kv/range%2f%2e%2e%2fput"), readonly: "501"},
		{name: "dots by GET", sends: request("GET /health/../v3/kv/put", bypassPut), readonly: "501"},
		{name: "one dot", sends: put("/v3/./kv/put"), readonly: "501"},
		{name: "double slash before", sends: put("//v3/kv/put"), readonly: "501"},
		{name: "double slash within", sends: put("/v3//kv/put"), readonly: "501"},
		{name: "double slash by GET", sends: request("GET //v3/kv/put", bypassPut), readonly: "501"},
		{name: "slash behind", sends: put("/v3/kv/put/"), readonly: "501"},
		{name: "back slashes", sends: put(`/v3\kv\put`), readonly: "501"},
		{name: "back slashes and dots", sends: request(`GET /x\..\v3/kv/put`, bypassPut), readonly: "501"},
		{name: "upper case", sends: put("/V3/KV/PUT"), readonly: "501"},
		{name: "one upper case letter", sends: put("/v3/kv/Put"), readonly: "501"},
		{name: "parameters", sends: put("/v3/kv/put;x=y"), readonly: "501"},
		{name: "parameters behind a read", sends: put("/v3/kv/range;/../put"), readonly: "501"},
		{name: "parameters of the prefix", sends: put("/v3;/kv/put"), readonly: "501"},
		{name: "fragment", sends: put("/v3/kv/put#"), readonly: "501"},
		{name: "fragment of a read", sends: put("/v3/kv/range#/../put"), readonly: "501"},
		{name: "a verb", sends: put("/v3/kv/range:put"), readonly: "501"},
		{name: "query", sends: put("/v3/kv/put?/v3/kv/range"), readonly: "501", readwrite: "200"},
		{name: "query with a method", sends: put("/v3/kv/put?_method=GET&method=GET"), readonly: "501", readwrite: "200"},
		{name: "a read's query with a method", sends: put("/v3/kv/range?_method=PUT&method=PUT"), readonly: "200"},
		{name: "a read's query with a path", sends: put("/v3/kv/range?/../put"), readonly: "200"},
		{name: "a tab behind", sends: put("/v3/kv/put\t"), readonly: "400 end"},
		{name: "two blanks before", sends: request("POST  /v3/kv/put", bypassPut), readonly: "400 end"},
		{name: "old prefix", sends: put("/v3beta/kv/put"), readonly: "501"},
		{name: "oldest prefix", sends: put("/v3alpha/kv/put"), readonly: "501"},
		{name: "a prefix to come", sends: request("GET /v4/kv/put", bypassPut), readonly: "501"},

		// One request in another, or behind it.
		{name: "pipelined behind a read", sends: get + put("/v3/kv/put") + get, readonly: "200 501 200", readwrite: "200 200 200"},
		{name: "pipelined behind a judged read", sends: txn(bypassReads) + txn(bypassTxn) + put("/v3/kv/put"), readonly: "200 501 501", readwrite: "200 200 200"},
		{name: "pipelined behind what is refused", sends: put("/v3/kv/put") + txn(bypassTxn), readonly: "501 501", readwrite: "200 200"},
		{name: "pipelined behind chunks", sends: inChunks("GET /version", "x", "") + put("/v3/kv/put"), readonly: "200", open: true},
		{name: "in a read's body", sends: request("GET /version", put("/v3/kv/put")), readonly: "200"},
		{name: "in a range's body", sends: request("POST /v3/kv/range", "x"+put("/v3/kv/put")), readonly: "400"},
		{name: "in a chunk", sends: inChunks("GET /version", put("/v3/kv/put"), ""), readonly: "200", open: true},
		{name: "behind a body of no bytes", sends: request("GET /version", "", "Content-Length: 0") + put("/v3/kv/put"), readonly: "200 501", readwrite: "200 200"},
		{name: "both lengths", sends: inChunks("GET /version", put("/v3/kv/put"), "", "Content-Length: 3"), readonly: "400 end"},
		{name: "two lengths", sends: request("GET /version", put("/v3/kv/put"), "Content-Length: 0"), readonly: "400 end"},
		{name: "two lengths in one", sends: request("GET /version", "", "Content-Length: 0, 9") + put("/v3/kv/put"), readonly: "400 end"},
		{name: "a length with a sign", sends: request("GET /version", "", "Content-Length: +0") + put("/v3/kv/put"), readonly: "400 end"},
		{name: "an encoding that is like chunked", sends: request("GET /version", "", "Transfer-Encoding: xchunked") + put("/v3/kv/put"), readonly: "400 end"},
		{name: "chunked behind another encoding", sends: request("GET /version", "", "Transfer-Encoding: gzip, chunked") + put("/v3/kv/put"), readonly: "400 end"},
		{name: "lines without carriage returns", sends: "GET /version HTTP/1.1\nHost: e\n\n" + put("/v3/kv/put"), readonly: "400 end"},
		{name: "a carriage return in a field", sends: request("GET /version", "", "X-A: b\rPOST /v3/kv/put HTTP/1.1"), readonly: "400 end"},
		{name: "two hosts", sends: request("GET /version", "", "Host: f") + put("/v3/kv/put"), readonly: "400 end"},
		{name: "HTTP/1.0", sends: strings.Replace(put("/v3/kv/put"), "HTTP/1.1", "HTTP/1.0", 1), readonly: "501 end", readwrite: "200 end"},
		{name: "HTTP/0.9", sends: "POST /v3/kv/put\r\n\r\n", readonly: "400 end"},
		{name: "HTTP/2 by its number", sends: strings.Replace(put("/v3/kv/put"), "HTTP/1.1", "HTTP/2.0", 1), readonly: "505 end"},
		{name: "HTTP/2's preface behind a read", sends: get + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", readonly: "200 505 end"},
		{name: "asks before its body", sends: request("POST /v3/kv/put", bypassPut, "Expect: 100-continue"), readonly: "501 end", readwrite: "100 200", open: true},
		{name: "a Txn asks before its body", sends: request("POST /v3/kv/txn", bypassTxn, "Expect: 100-continue"), readonly: "417 end", readwrite: "100 200", open: true},

		// Other protocols.
		{name: "websocket for a put", sends: request("GET /v3/kv/put?method=POST", "", toWebSocket) + frame(bypassPut), readonly: "501", readwrite: "101", open: true, only: "3.4"},
		{name: "websocket for a put, escaped", sends: request("GET /v3/kv%2Fput?method=POST", "", toWebSocket) + frame(bypassPut), readonly: "501", readwrite: "101", open: true, only: "3.4"},
		{name: "websocket for a Txn", sends: request("GET /v3/kv/txn?method=POST", "", toWebSocket) + frame(bypassTxn), readonly: "501", readwrite: "101", open: true, only: "3.4"},
		{name: "websocket for a lease", sends: request("GET /v3/lease/grant?method=POST", "", toWebSocket) + frame(`{"TTL":"9000"}`), readonly: "501", readwrite: "101", open: true, only: "3.4"},
		{name: "websocket for keep-alives", sends: request("GET /v3/lease/keepalive", "", toWebSocket) + frame(`{"ID":"101"}`), readonly: "501", open: true},
		{name: "websocket for a range", sends: request("GET /v3/kv/range?method=POST", "", toWebSocket), readonly: "501"},
		{name: "websocket for a watch", sends: request("GET /v3/watch", "", toWebSocket) + frame(`{"create_request":{"key":"YnlwYXNz"}}`), readonly: "101", open: true},
		{name: "websocket for a watch, absolute", sends: request("GET http://e/v3/watch", "", toWebSocket), readonly: "101", open: true},
		{name: "websocket for a watch with a method", sends: request("GET /v3/watch?method=PUT", "", toWebSocket) + frame(bypassPut), readonly: "101", open: true},
		{name: "websocket for a watch with a path", sends: request("GET /v3/watch?/../kv/put", "", toWebSocket) + frame(bypassPut), readonly: "101", open: true},
		{name: "websocket for a watch, then a request", sends: request("GET /v3/watch", "", toWebSocket) + put("/v3/kv/put"), readonly: "101", open: true},
		{name: "websocket for a watch that is refused there, then a put", sends: request("GET /v3/watch", "", "Connection: Upgrade", "Upgrade: websocket") + put("/v3/kv/put"), readonly: "400 501"},
		{name: "websocket for a watch, dots behind", sends: request("GET /v3/watch/../kv/put", "", toWebSocket), readonly: "501"},
		{name: "websocket for a watch, dots escaped", sends: request("GET /v3/watch%2F..%2Fkv%2Fput", "", toWebSocket), readonly: "501"},
		{name: "websocket for a watch, escaped", sends: request("GET /v3/%77atch", "", toWebSocket), readonly: "501"},
		{name: "websocket for a watch, double slash", sends: request("GET /v3//watch", "", toWebSocket), readonly: "501"},
		{name: "websocket for a watch by POST", sends: request("POST /v3/watch", "", toWebSocket), readonly: "501"},
		{name: "websocket for /version", sends: request("GET /version", "", toWebSocket), readonly: "501"},
		{name: "websocket or h2c", sends: request("GET /v3/watch", "", "Connection: Upgrade", "Upgrade: websocket, h2c"), readonly: "501"},
		{name: "websocket and h2c", sends: request("GET /v3/watch", "", toWebSocket, "Upgrade: h2c"), readonly: "501"},
		{name: "h2c for a put", sends: request("POST /v3/kv/put", bypassPut, toHTTP2), readonly: "501"},
		{name: "h2c for a watch", sends: request("GET /v3/watch", "", toHTTP2), readonly: "501"},
		{name: "h2c for /version", sends: request("GET /version", "", toHTTP2) + put("/v3/kv/put"), readonly: "501 501"},
		{name: "TLS within", sends: request("OPTIONS *", "", "Connection: Upgrade", "Upgrade: TLS/1.2"), readonly: "501"},
		{name: "an upgrade without Connection", sends: request("GET /v3/kv/put", "", "Upgrade: websocket"), readonly: "501"},
		{name: "gRPC over HTTP/1.1", sends: request("POST /etcdserverpb.KV/Put", grpcMessage(grpcPut), "Content-Type: application/grpc", "TE: trailers"), readonly: "501"},
		{name: "a gRPC read over HTTP/1.1", sends: request("POST /etcdserverpb.KV/Range", grpcMessage(grpcPut), "Content-Type: application/grpc", "TE: trailers"), readonly: "501"},
		{name: "gRPC-web", sends: request("POST /etcdserverpb.KV/Put", base64.StdEncoding.EncodeToString([]byte(grpcMessage(grpcPut))), "Content-Type: application/grpc-web-text"), readonly: "501"},
		{name: "gRPC on a path of JSON", sends: request("POST /v3/kv/put", grpcMessage(grpcPut), "Content-Type: application/grpc"), readonly: "501"},
		{name: "a put as a form", sends: request("POST /v3/kv/put", bypassPut, bypassForm), readonly: "501", readwrite: "200"},
	}
	return append(append(rows, bypassTxns(txn)...), bypassV2(get)...)
}

// bypassTxns are transactions that hide what they write.
func bypassTxns(txn func(string) string) []bypassRow {
	return []bypassRow{
		{name: "a Txn", sends: txn(bypassTxn), readonly: "501", readwrite: "200"},
		{name: "a Txn of reads", sends: txn(bypassReads), readonly: "200"},
		{name: "a Txn by GET", sends: request("GET /v3/kv/txn", bypassTxn), readonly: "501"},
		{name: "a Txn in chunks", sends: inChunks("POST /v3/kv/txn", bypassTxn, "X-A: b\r\n"), readonly: "501", readwrite: "200", open: true},
		{name: "a Txn, escaped path", sends: request("POST /v3/k%76%2Ftxn", bypassTxn), readonly: "501", readwrite: "200"},
		{name: "a Txn as a form", sends: request("POST /v3/kv/txn", bypassTxn, bypassForm), readonly: "501", readwrite: "200"},
		{name: "a Txn with an encoding", sends: request("POST /v3/kv/txn", bypassReads, "Content-Encoding: gzip"), readonly: "501"},
		{name: "a Txn without a body", sends: request("POST /v3/kv/txn", ""), readonly: "501"},
		{name: "snake case", sends: txn(`{"success":[{"request_put":{"key":"YnlwYXNz"}}]}`), readonly: "501", readwrite: "200"},
		{name: "escaped keys", sends: txn(`{"\u0073uccess":[{"request\u0050ut":{"key":"YnlwYXNz"}}]}`), readonly: "501", readwrite: "200"},
		{name: "a key twice", sends: txn(`{"success":[],"success":[{"requestPut":{"key":"YnlwYXNz"}}]}`), readonly: "501"},
		{name: "a key twice, the put first", sends: txn(`{"success":[{"requestPut":{"key":"YnlwYXNz"}}],"success":[]}`), readonly: "501"},
		{name: "both spellings", sends: txn(`{"success":[{"requestRange":{"key":"Zm9v"},"request_range":{"key":"Zm9v"},"request_put":{}}]}`), readonly: "501"},
		{name: "two of a oneof", sends: txn(`{"success":[{"requestRange":{"key":"Zm9v"},"requestPut":{"key":"YnlwYXNz"}}]}`), readonly: "501"},
		{name: "upper case key", sends: txn(`{"Success":[{"requestPut":{"key":"YnlwYXNz"}}]}`), readonly: "501"},
		{name: "long s", sends: txn(`{"ſucceſſ":[{"requestPut":{"key":"YnlwYXNz"}}]}`), readonly: "501"},
		{name: "unknown key", sends: txn(`{"also":[{"requestPut":{"key":"YnlwYXNz"}}],"success":[]}`), readonly: "501"},
		{name: "null", sends: txn(`{"success":null}`), readonly: "501"},
		{name: "a second object", sends: txn(bypassReads + bypassTxn), readonly: "501"},
		{name: "white space before", sends: txn("\r\n\t " + bypassTxn), readonly: "501", readwrite: "200"},
		{name: "a byte order mark", sends: txn("\ufeff" + bypassTxn), readonly: "501"},
		{name: "an array", sends: txn("[" + bypassTxn + "]"), readonly: "501"},
		{name: "deep", sends: txn(strings.Repeat(`{"success":[{"requestTxn":`, 9) + bypassTxn + strings.Repeat(`}]}`, 9)), readonly: "501", readwrite: "200"},
		{name: "too deep", sends: txn(strings.Repeat(`{"success":[{"requestTxn":`, 99) + bypassTxn + strings.Repeat(`}]}`, 99)), readonly: "501"},
		{name: "an action with an exponent", sends: request("POST /v3/maintenance/alarm", `{"action":1e0,"alarm":"NOSPACE","memberID":"1"}`), readonly: "501"},
		{name: "an action as a string of a number", sends: request("POST /v3/maintenance/alarm", `{"action":"1","alarm":"NOSPACE","memberID":"1"}`), readonly: "501"},
	}
}

// bypassV2 are writes of v2.
func bypassV2(get string) []bypassRow {
	form := func(line string) string { return request(line, "value=no", bypassForm) }
	return []bypassRow{
		{name: "v2 put", sends: form("PUT /v2/keys/a"), readonly: "501", readwrite: "201", only: withV2},
		{name: "v2 post", sends: form("POST /v2/keys/queue"), readonly: "501", readwrite: "201", only: withV2},
		{name: "v2 absolute", sends: form("PUT http://e/v2/keys/b"), readonly: "501", readwrite: "201", only: withV2},
		{name: "v2 escaped", sends: form("PUT /v2/%6beys/c"), readonly: "501", readwrite: "201", only: withV2},
		{name: "v2 method by query", sends: form("PUT /v2/keys/d?_method=GET"), readonly: "501", readwrite: "201", only: withV2},
		{name: "v2 in chunks", sends: inChunks("PUT /v2/keys/e", "value=no", "X-A: b\r\n", bypassForm), readonly: "501 end", readwrite: "201", only: withV2, open: true},
		{name: "v2 pipelined behind a read", sends: get + form("PUT /v2/keys/f") + get, readonly: "200 501 200", readwrite: "200 201 200", only: withV2},
		{name: "v2 in lower case", sends: form("put /v2/keys/g"), readonly: "501"},
		{name: "v2 dots", sends: form("PUT /v3/../v2/keys/g"), readonly: "501"},
		{name: "v2 override", sends: request("GET /v2/keys/g?value=no", "", "X-HTTP-Method-Override: PUT"), readonly: "501"},
		{name: "v2 override of a put", sends: request("PUT /v2/keys/g?value=no", "", "X-HTTP-Method-Override: GET"), readonly: "501", readwrite: "201", only: withV2},
		{name: "v2 by websocket", sends: request("GET /v2/keys/g", "", toWebSocket), readonly: "501"},
	}
}
