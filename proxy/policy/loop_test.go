package policy

import "testing"

func TestInstance(t *testing.T) {
	a, b := NewInstance(), NewInstance()
	if a == b || len(a) != len("etcdops-")+16 {
		t.Errorf("%s %s", a, b)
	}
	for name, c := range map[string]struct {
		via  string
		want bool
	}{
		"none":              {"", false},
		"ours":              {a.Via("1.1"), true},
		"ours, HTTP/2":      {a.Via("2"), true},
		"ours among others": {"1.0 fred, " + a.Via("1.1") + " (comment), 1.1 x", true},
		"another's":         {b.Via("1.1"), false},
		"only a part":       {a.Via("1.1") + "0", false},
		"name as protocol":  {string(a) + " x", false},
		"in a comment":      {"1.1 x " + string(a), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := a.Seen(c.via); got != c.want {
				t.Errorf("%q: %v", c.via, got)
			}
		})
	}
}
