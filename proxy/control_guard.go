package proxy

import (
	"log"
	"log/slog"
	"net"
	"os"
)

// guarded lets only the proxy's own user and root connect to the control socket,
// whatever the rights of its file and folders have become. It asks the kernel who
// has connected.
type guarded struct {
	net.Listener
	logger *slog.Logger
}

// Accept implements net.Listener.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := connectedUID(c)
		if err == nil && (uid == uint32(os.Geteuid()) || uid == 0) {
			return c, nil
		}
		if err != nil {
			g.logger.Debug("control socket: who connects is not known", "error", err)
		} else {
			g.logger.Debug("control socket: another user is refused", "uid", uid)
		}
		_ = c.Close()
	}
}

// quietLog is for the servers of net/http, which would write to standard error: one
// line for each broken handshake.
func (s *Server) quietLog() *log.Logger {
	return slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug)
}
