package promote

import (
	"os"
	"testing"
)

// TestUnitWithoutSystemd holds that a promotion which could neither begin nor be
// undone is refused: this test never runs as root in a machine of systemd's, or
// it looks at no unit at all.
func TestUnitWithoutSystemd(t *testing.T) {
	want := ""
	if _, err := os.Stat(systemdFolder); err != nil {
		want = "no-systemd"
	} else if os.Geteuid() != 0 {
		want = "not-root"
	}
	for _, test := range []struct {
		name string
		plan Plan
		want string
	}{
		{name: "detached", plan: Plan{Supervisor: SuperviseDetach}},
		{name: "our own unit", plan: Plan{Supervisor: SuperviseSystemd, Service: Service{Unit: "etcd-none-such.service"}}, want: want},
		{name: "a drop-in", plan: Plan{Supervisor: SuperviseSystemd, Service: Service{Unit: "p.service", DropIn: true}}, want: want},
		{name: "the proxy's unit alone", plan: Plan{Supervisor: SuperviseDetach, Proxy: Standing{Unit: "p.service", Within: "p.service"}}, want: want},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			for _, r := range test.plan.checkUnit() {
				got += r.Check
			}
			if got != test.want {
				t.Errorf("refused for %q, want %q", got, test.want)
			}
		})
	}
}
