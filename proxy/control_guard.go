package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
)

// callerKey finds in a request's context who is behind its connection.
type callerKey struct{}

// caller is who connected, as the kernel says, or why that is not known.
type caller struct {
	uid uint32
	err error
}

// withCaller is http.Server's ConnContext of the control socket.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	uid, err := callerUID(c)
	return context.WithValue(ctx, callerKey{}, caller{uid, err})
}

// guarded lets in the user that this process runs as, and root. The socket's mode
// says so too, but modes can be changed, and folders be opened.
func (s *Server) guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(callerKey{}).(caller)
		if c.err == nil && (c.uid == 0 || c.uid == uint32(os.Geteuid())) {
			h.ServeHTTP(w, r)
			return
		}
		more := []any{"path", r.URL.Path, "uid", c.uid}
		if c.err != nil {
			more = append(more, "error", c.err)
		}
		s.Logger.Warn("control socket refused", more...)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf("user %d may not ask this proxy: only its own user and root may", c.uid)})
	})
}
