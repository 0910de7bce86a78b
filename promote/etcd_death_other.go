//go:build !linux

package promote

import "syscall"

func setDeathSignal(*syscall.SysProcAttr) {}
