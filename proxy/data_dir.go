package proxy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkDataDir refuses a directory that belongs to a member.
func (s *Server) checkDataDir() error {
	if s.BesideMember {
		return nil
	}
	wal := s.WALDir
	if wal == "" {
		wal = filepath.Join(s.DataDir, "member", "wal")
	}
	entries, err := os.ReadDir(wal)
	switch {
	case err == nil && slices.ContainsFunc(entries, isLog):
		return &MemberDataError{wal}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("look into the data directory: %w", err)
	}
	info, err := os.Stat(s.DataDir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("data directory %s is not a directory", s.DataDir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("look into the data directory: %w", err)
	}
	return nil
}

// isLog tells a file of a member's log (Exist, server/storage/wal/util.go).
func isLog(entry os.DirEntry) bool { return strings.HasSuffix(entry.Name(), ".wal") }

// MemberDataError says that the data directory holds a member's log.
type MemberDataError struct{ WAL string }

// Error implements error.
func (e *MemberDataError) Error() string {
	return fmt.Sprintf("%s holds the log of an etcd member", e.WAL)
}
