//go:build !linux

package promote

// unprivilegedPort is the first port that everybody may bind.
func unprivilegedPort() int { return defaultUnprivilegedPort }

// asUser calls f with our own rights: a promotion that changes the user needs
// Linux.
func asUser(_, _ uint32, f func() error) error { return f() }
