// Package policy knows what a request is: a read or something else, and whether
// it has come round to us before. The relays ask it; it knows no connection.
package policy

// GRPCRead says whether a gRPC call is known to change nothing, so that it may
// be sent to a second member when the first did not answer.
func GRPCRead(fullMethod string) bool { return byMethod[fullMethod].changesNothing() }

// HTTPRead says the same of an HTTP request by its method and raw path
// (without the query). GET and HEAD are reads in etcd's v2 API, and in its JSON
// gateway nothing that writes answers to them.
func HTTPRead(method, path string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS":
		return true
	case "POST":
		return byPath[path].changesNothing()
	}
	return false
}
