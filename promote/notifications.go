package promote

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// notificationLimit bounds one message, in bytes.
const notificationLimit = 4096

// Notifications passes on what a child says to the service manager by
// sd_notify(3): a manager listens to a unit's main process alone, unless its
// NotifyAccess says otherwise, and that is ours.
type Notifications struct {
	// Variable is NOTIFY_SOCKET=… for the child's environment.
	Variable string

	dir  string
	conn *net.UnixConn
	done chan struct{}
}

// RelayNotifications gives each message to tell until Close.
func RelayNotifications(tell func(state string)) (*Notifications, error) {
	dir, err := os.MkdirTemp("", "etcdops-notify-")
	if err != nil {
		return nil, fmt.Errorf("relay notifications: %w", err)
	}
	path := filepath.Join(dir, "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("relay notifications: %w", err)
	}
	n := &Notifications{Variable: "NOTIFY_SOCKET=" + path, dir: dir, conn: conn, done: make(chan struct{})}
	go n.relay(tell)
	return n, nil
}

func (n *Notifications) relay(tell func(state string)) {
	defer close(n.done)
	message := make([]byte, notificationLimit)
	for {
		size, err := n.conn.Read(message)
		if err != nil {
			return // it was closed
		}
		tell(string(message[:size]))
	}
}

// Close ends the relay and removes the socket.
func (n *Notifications) Close() {
	_ = n.conn.Close()
	<-n.done
	_ = os.RemoveAll(n.dir)
}
