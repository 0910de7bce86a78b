//go:build !linux

package promote

import (
	"context"
	"errors"
)

var errNeedsLinux = errors.New("looking at another process needs Linux")

func readStat(int) (stat, error) { return stat{}, errNeedsLinux }

func bootID() string { return "" }

func runningPIDs() ([]int, error) { return nil, errNeedsLinux }

type processHandle struct{}

func openProcess(int) (*processHandle, error) { return nil, errNeedsLinux }

func (h *processHandle) close()                     {}
func (h *processHandle) terminate() error           { return errNeedsLinux }
func (h *processHandle) kill() error                { return errNeedsLinux }
func (h *processHandle) wait(context.Context) error { return errNeedsLinux }

func keepDescriptors() error { return errNeedsLinux }
