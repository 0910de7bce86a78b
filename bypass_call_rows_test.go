package main

// The full methods that rows ask for most.
const (
	putMethod   = "/etcdserverpb.KV/Put"
	rangeMethod = "/etcdserverpb.KV/Range"
	txnMethod   = "/etcdserverpb.KV/Txn"
)

// Answers of a readonly proxy over HTTP/2: gRPC's UNIMPLEMENTED, and a stream
// that breaks RFC 9113.
const (
	unimplemented = "200 12"
	malformed     = "RST PROTOCOL_ERROR"
)

// bypassCalls are tried over HTTP/2, in the clear and with TLS.
func bypassCalls() []bypassCall {
	put, txn := grpcMessage(grpcPut), grpcMessage(grpcTxn)
	rows := []bypassCall{
		{name: "a put", fields: asGRPC(putMethod), body: put, readonly: unimplemented, readwrite: "200 0"},
		{name: "a put in frames of one byte", fields: asGRPC(putMethod), body: put, pieces: 1, readonly: unimplemented, readwrite: "200 0"},
		{name: "a put with a trailer", fields: asGRPC(putMethod), body: put, trailer: []string{"x-a", "b"}, readonly: unimplemented, readwrite: "200 0"},
		{name: "a put, compressed", fields: with(asGRPC(putMethod), "grpc-encoding", "gzip"), body: grpcCompressed(grpcPut), readonly: unimplemented},
		{name: "a lease", fields: asGRPC("/etcdserverpb.Lease/LeaseGrant"), body: grpcMessage(grpcGrant), readonly: unimplemented, readwrite: "200 0"},
		{name: "a put for a range", fields: asGRPC(rangeMethod), body: put, readonly: "200 0"},

		// How the call is named.
		{name: "double slash", fields: asGRPC("/" + putMethod), body: put, readonly: unimplemented},
		{name: "slash behind", fields: asGRPC(putMethod + "/"), body: put, readonly: unimplemented},
		{name: "escaped letter", fields: asGRPC("/etcdserverpb.KV/%50ut"), body: put, readonly: unimplemented},
		{name: "escaped slash", fields: asGRPC("/etcdserverpb.KV%2FPut"), body: put, readonly: unimplemented},
		{name: "upper case", fields: asGRPC("/ETCDSERVERPB.KV/PUT"), body: put, readonly: unimplemented},
		{name: "lower case", fields: asGRPC("/etcdserverpb.kv/put"), body: put, readonly: unimplemented},
		{name: "query", fields: asGRPC(putMethod + "?" + rangeMethod), body: put, readonly: unimplemented},
		{name: "a read's query", fields: asGRPC(rangeMethod + "?" + putMethod), body: put, readonly: unimplemented},
		{name: "fragment", fields: asGRPC(rangeMethod + "#" + putMethod), body: put, readonly: unimplemented},
		{name: "dots", fields: asGRPC(rangeMethod + "/../Put"), body: put, readonly: unimplemented},
		{name: "two methods", fields: asGRPC(rangeMethod + "," + putMethod), body: put, readonly: unimplemented},
		{name: "a method to come", fields: asGRPC("/etcdserverpb.KV/NewCall"), body: put, readonly: unimplemented},
		{name: "no path", fields: asGRPC(""), body: put, readonly: malformed},
		{name: "no slash", fields: asGRPC("etcdserverpb.KV/Put"), body: put, readonly: malformed},
		{name: "absolute", fields: asGRPC("http://e" + putMethod), body: put, readonly: malformed},
		{name: "asterisk", fields: asGRPC("*"), body: put, readonly: malformed},
		{name: "two paths", fields: append([]string{":path", rangeMethod}, asGRPC(putMethod)...), body: put, readonly: malformed},
		{name: "a second path behind the fields", fields: append(asGRPC(rangeMethod), ":path", putMethod), body: put, readonly: malformed},

		// How the method is said.
		{name: "GET", fields: with(asGRPC(putMethod), ":method", "GET"), body: put, readonly: unimplemented},
		{name: "PUT", fields: with(asGRPC(putMethod), ":method", "PUT"), body: put, readonly: unimplemented},
		{name: "post", fields: with(asGRPC(putMethod), ":method", "post"), body: put, readonly: unimplemented},
		{name: "CONNECT", fields: []string{":method", "CONNECT", ":authority", "e:2379"}, readonly: malformed},
		{name: "CONNECT with a path", fields: with(asGRPC(putMethod), ":method", "CONNECT"), body: put, readonly: malformed},
		{name: "websocket by CONNECT", fields: []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/v3/kv/put", ":authority", "e"}, body: frame(bypassPut), readonly: malformed},
		{name: "websocket for a watch by CONNECT", fields: []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/v3/watch", ":authority", "e"}, readonly: malformed},
		{name: "an unknown pseudo-header", fields: append([]string{":override", "POST"}, asGRPC(rangeMethod)...), body: put, readonly: malformed},

		// What it says it is.
		{name: "with a codec", fields: with(asGRPC(putMethod), "content-type", "application/grpc+proto"), body: put, readonly: unimplemented, readwrite: "200 0"},
		{name: "with a parameter", fields: with(asGRPC(putMethod), "content-type", "application/grpc;x=y"), body: put, readonly: unimplemented, readwrite: "200 0"},
		{name: "gRPC-web", fields: with(asGRPC(putMethod), "content-type", "application/grpc-web"), body: put, readonly: unimplemented},
		{name: "JSON for a gRPC method", fields: with(asGRPC(putMethod), "content-type", "application/json"), body: bypassPut, readonly: "501"},
		{name: "upper case type", fields: with(asGRPC(putMethod), "content-type", "Application/gRPC"), body: put, readonly: "501"},
		{name: "no type", fields: fieldsOf("POST", putMethod, ""), body: put, readonly: "501"},
		{name: "two types, gRPC last", fields: append(asJSON(putMethod), "content-type", "application/grpc"), body: put, readonly: unimplemented},
		{name: "two types, gRPC first", fields: append(asGRPC(putMethod), "content-type", "application/json"), body: put, readonly: "501"},
		{name: "gRPC for a path of JSON", fields: asGRPC("/v3/kv/put"), body: bypassPut, readonly: unimplemented},
		{name: "gRPC for a read's path of JSON", fields: asGRPC("/v3/kv/range"), body: bypassPut, readonly: unimplemented},

		// Transactions.
		{name: "a Txn", fields: asGRPC(txnMethod), body: txn, readonly: unimplemented, readwrite: "200 0"},
		{name: "a Txn of reads", fields: asGRPC(txnMethod), body: grpcMessage(grpcRange), readonly: "200 0"},
		{name: "a Txn of reads in frames of one byte", fields: asGRPC(txnMethod), body: grpcMessage(grpcRange), pieces: 1, readonly: "200 0"},
		{name: "a Txn that writes else", fields: asGRPC(txnMethod), body: grpcMessage(grpcElse), readonly: unimplemented, readwrite: "200 0"},
		{name: "a Txn in frames of one byte", fields: asGRPC(txnMethod), body: txn, pieces: 1, readonly: unimplemented, readwrite: "200 0"},
		{name: "a Txn with a trailer", fields: asGRPC(txnMethod), body: txn, trailer: []string{"x-a", "b"}, readonly: unimplemented, readwrite: "200 0"},
		{name: "a Txn, compressed", fields: with(asGRPC(txnMethod), "grpc-encoding", "gzip"), body: grpcCompressed(grpcTxn), readonly: unimplemented},
		{name: "a Txn of reads, compressed", fields: with(asGRPC(txnMethod), "grpc-encoding", "gzip"), body: grpcCompressed(grpcRange), readonly: unimplemented},
		{name: "a Txn that says it is compressed and is not", fields: with(asGRPC(txnMethod), "grpc-encoding", "gzip"), body: txn, readonly: unimplemented, readwrite: "200 0", only: "3.5 3.6 3.7"},
		{name: "a Txn with a flag that is not known", fields: asGRPC(txnMethod), body: grpcPrefixed(2, grpcRange), readonly: unimplemented},
		{name: "a Txn of reads, then one that writes", fields: asGRPC(txnMethod), body: grpcMessage(grpcRange) + txn, readonly: unimplemented},
		{name: "a Txn behind a message of no bytes", fields: asGRPC(txnMethod), body: grpcMessage("") + txn, readonly: unimplemented},
		{name: "a Txn with a length too short", fields: asGRPC(txnMethod), body: grpcMessage(grpcRange) + grpcTxn, readonly: unimplemented},
		{name: "a Txn with a length too long", fields: asGRPC(txnMethod), body: txn[:len(txn)-1], readonly: unimplemented},
		{name: "a Txn without a message", fields: asGRPC(txnMethod), readonly: unimplemented},
		{name: "a Txn, the range overruled", fields: asGRPC(txnMethod), body: grpcMessage(grpcTwice), readonly: unimplemented, readwrite: "200 0"},
		{name: "a Txn, reads and writes joined", fields: asGRPC(txnMethod), body: grpcMessage(grpcRange + grpcTxn), readonly: unimplemented, readwrite: "200 0"},
		{name: "a Txn with an unknown field", fields: asGRPC(txnMethod), body: grpcMessage(grpcRange + "\x7a\x00"), readonly: unimplemented},
		{name: "a Txn with a codec", fields: with(asGRPC(txnMethod), "content-type", "application/grpc+json"), body: txn, readonly: unimplemented},
		{name: "a put for a Txn", fields: asGRPC(txnMethod), body: put, readonly: unimplemented},
	}
	return append(rows, bypassBridged()...)
}

// bypassBridged are not gRPC: they go on over HTTP/1.1.
func bypassBridged() []bypassCall {
	return []bypassCall{
		{name: "JSON", fields: asJSON("/v3/kv/put"), body: bypassPut, readonly: "501", readwrite: "200"},
		{name: "JSON with a length", fields: with(asJSON("/v3/kv/put"), "content-length", "33"), body: bypassPut, readonly: "501", readwrite: "200"},
		{name: "JSON with a trailer", fields: asJSON("/v3/kv/put"), body: bypassPut, trailer: []string{"x-http-method-override", "GET"}, readonly: "501", readwrite: "200"},
		{name: "JSON without a type", fields: fieldsOf("POST", "/v3/kv/put", ""), body: bypassPut, readonly: "501", readwrite: "200"},
		{name: "JSON, a read", fields: asJSON("/v3/kv/range"), body: bypassPut, readonly: "200"},
		{name: "JSON by GET", fields: with(asJSON("/v3/kv/put"), ":method", "GET"), body: bypassPut, readonly: "501"},
		{name: "JSON by post", fields: with(asJSON("/v3/kv/put"), ":method", "post"), body: bypassPut, readonly: "501"},
		{name: "JSON, override", fields: with(asJSON("/v3/kv/range"), "x-http-method-override", "PUT"), body: bypassPut, readonly: "501"},
		{name: "JSON, override in a trailer", fields: asJSON("/v3/kv/range"), body: bypassPut, trailer: []string{"x-http-method-override", "PUT"}, readonly: "200"},
		{name: "JSON, escaped slash", fields: asJSON("/v3/kv%2Fput"), body: bypassPut, readonly: "501", readwrite: "200"},
		{name: "JSON, escaped letter", fields: asJSON("/v3/k%76/put"), body: bypassPut, readonly: "501", readwrite: "200"},
		{name: "JSON, escaped twice", fields: asJSON("/v3/k%2576/put"), body: bypassPut, readonly: "501"},
		{name: "JSON, double slash", fields: asJSON("//v3/kv/put"), body: bypassPut, readonly: "501"},
		{name: "JSON, dots", fields: asJSON("/v2/../v3/kv/put"), body: bypassPut, readonly: "501"},
		{name: "JSON, dots escaped", fields: asJSON("/v3/kv/range/%2e%2e/put"), body: bypassPut, readonly: "501"},
		{name: "JSON, upper case", fields: asJSON("/V3/kv/put"), body: bypassPut, readonly: "501"},
		{name: "JSON, fragment", fields: asJSON("/v3/kv/range#/../put"), body: bypassPut, readonly: "501"},
		{name: "JSON, parameters", fields: asJSON("/v3/kv/put;x=y"), body: bypassPut, readonly: "501"},
		{name: "JSON, query", fields: asJSON("/v3/kv/put?_method=GET"), body: bypassPut, readonly: "501", readwrite: "200"},
		{name: "JSON, absolute", fields: asJSON("http://e/v3/kv/put"), body: bypassPut, readonly: malformed},
		{name: "JSON, old prefix", fields: asJSON("/v3beta/kv/put"), body: bypassPut, readonly: "501"},
		{name: "JSON, a Txn", fields: asJSON("/v3/kv/txn"), body: bypassTxn, readonly: "501", readwrite: "200"},
		{name: "JSON, a Txn in frames of one byte", fields: asJSON("/v3/kv/txn"), body: bypassTxn, pieces: 1, readonly: "501", readwrite: "200"},
		{name: "JSON, a Txn of reads", fields: asJSON("/v3/kv/txn"), body: bypassReads, readonly: "200"},
		{name: "JSON, a Txn with an encoding", fields: with(asJSON("/v3/kv/txn"), "content-encoding", "gzip"), body: bypassReads, readonly: "501"},
		{name: "v2", fields: with(fieldsOf("PUT", "/v2/keys/h2", "application/x-www-form-urlencoded")), body: "value=no", readonly: "501", readwrite: "201", only: withV2},
		{name: "v2 by query", fields: fieldsOf("PUT", "/v2/keys/h2?value=no&ttl=100", ""), readonly: "501", readwrite: "200", only: withV2},

		// HTTP/1.1 in the fields.
		{name: "a request in the method", fields: fieldsOf("GET /version HTTP/1.1\r\nHost: e\r\n\r\nPOST", "/v3/kv/put", ""), body: bypassPut, readonly: malformed},
		{name: "a blank in the method", fields: fieldsOf("GET /version", "/v3/kv/put", ""), body: bypassPut, readonly: malformed},
		{name: "a request in the path", fields: fieldsOf("GET", "/version HTTP/1.1\r\nHost: e\r\n\r\nPOST /v3/kv/put", ""), body: bypassPut, readonly: malformed},
		{name: "a blank in the path", fields: fieldsOf("POST", "/v3/kv/range HTTP/1.1 /v3/kv/put", ""), body: bypassPut, readonly: malformed},
		{name: "a field in the authority", fields: with(asJSON("/v3/kv/range"), ":authority", "e\r\nX-HTTP-Method-Override: PUT"), body: bypassPut, readonly: malformed},
		{name: "a path in the authority", fields: with(asJSON("/v3/kv/range"), ":authority", "e/v3/kv/put?"), body: bypassPut, readonly: "400"},
		{name: "a request in a field", fields: with(asJSON("/v3/kv/range"), "x-a", "b\r\n\r\nPOST /v3/kv/put HTTP/1.1"), body: bypassPut, readonly: malformed},
		{name: "a field in a field's name", fields: with(asJSON("/v3/kv/range"), "x-a: b\r\nx-http-method-override", "PUT"), body: bypassPut, readonly: malformed},
		{name: "a field's name in upper case", fields: with(asJSON("/v3/kv/range"), "X-HTTP-Method-Override", "PUT"), body: bypassPut, readonly: malformed},
		{name: "transfer-encoding", fields: with(asJSON("/v3/kv/range"), "transfer-encoding", "chunked"), body: bypassPut, readonly: malformed},
		{name: "upgrade", fields: with(fieldsOf("GET", "/v3/watch", ""), "connection", "Upgrade", "upgrade", "websocket"), readonly: malformed},
		// A length of 0 makes its request whole: etcd's answer to it may be quicker.
		{name: "a request behind a length of 0", fields: with(asJSON("/v3/kv/range"), "content-length", "0"), body: request("POST /v3/kv/put", bypassPut), readonly: malformed + " or 400"},
		{name: "a request behind the length", fields: with(asJSON("/v3/kv/range"), "content-length", "2"), body: "{}" + request("POST /v3/kv/put", bypassPut), readonly: malformed},
		{name: "two lengths", fields: append(asJSON("/v3/kv/range"), "content-length", "2", "content-length", "9"), body: "{}" + request("POST /v3/kv/put", bypassPut), readonly: malformed},
		{name: "a request in a range's body", fields: asJSON("/v3/kv/range"), body: "x\r\n0\r\n\r\n" + request("POST /v3/kv/put", bypassPut), readonly: "400"},
	}
}
