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

func TestRefusal(t *testing.T) {
	a, b := NewInstance(), NewInstance()
	for name, c := range map[string]struct {
		status string
		want   bool
	}{
		"none":                {"", false},
		"ours":                {a.Refusal(), true},
		"ours among others":   {"nginx; error=x; details=\"y\", " + a.Refusal() + ";details=\"z\", " + b.Refusal(), true},
		"another's":           {b.Refusal(), false},
		"another error":       {string(a) + "; error=connection_refused", false},
		"no error":            {string(a), false},
		"the error elsewhere": {string(a) + "; error=x, nginx; error=proxy_loop_detected", false},
		"only a part":         {string(a) + "0; error=proxy_loop_detected", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := a.Refused(c.status); got != c.want {
				t.Errorf("%q: %v", c.status, got)
			}
		})
	}
}
