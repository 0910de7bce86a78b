// Package policy knows what a request is: a read or something else, and whether
// it has come round to us before. The relays ask it; it knows no connection.
package policy

// HTTPRead says whether an HTTP request is known to change nothing, by its method
// and raw path (without the query), so that it may be sent to a second member when
// the first did not answer. GET and HEAD are reads in etcd's v2 API, and in its JSON
// gateway nothing that writes answers to them.
func HTTPRead(method, path string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS":
		return true
	case "POST":
		return CallAt(path).ChangesNothing()
	}
	return false
}
