package promote

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unprivilegedPortFile holds the first port that everybody may bind.
const unprivilegedPortFile = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// unprivilegedPort is the first port that everybody may bind.
func unprivilegedPort() int {
	text, err := os.ReadFile(unprivilegedPortFile)
	if err == nil {
		if port, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return port
		}
	}
	return defaultUnprivilegedPort
}

// asUser calls f with the rights of a user and his groups. Only root can; for
// anybody else it is a plain call, because etcd will then run as that same
// user.
//
// The kernel keeps rights per thread, and the plain system calls change those
// of this thread alone, while package syscall's change all of them. The thread
// is not used again: it ends with its goroutine, which never unlocks it.
func asUser(uid, gid uint32, f func() error) error {
	if os.Geteuid() != 0 || uid == 0 {
		return f()
	}
	groups := append(supplementaryGroups(uid), gid)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := becomeUser(uid, gid, groups)
		if err == nil {
			err = f()
		} else {
			err = fmt.Errorf("become user %d: %w", uid, err)
		}
		done <- err
	}()
	return <-done
}

// becomeUser gives this thread up to another user. The capabilities go with
// root's effective user ID (capabilities(7)).
func becomeUser(uid, gid uint32, groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return errno
	}
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(gid), keep); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	return nil
}
