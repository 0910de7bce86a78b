package promote

import (
	"strings"
	"testing"
)

func etcdService() Service {
	return Service{
		Binary: Binary{Path: "/opt/100% etcd/$bin", Args: []string{"etcd"}}, Flags: []string{"--auth-token=$X %y", ";"},
		Variables: Variables{{"ETCD_NAME", "m 4"}, {"ETCD_INITIAL_CLUSTER_STATE", "existing"}},
		Unset:     []string{"ETCD_PROXY", "ETCD_NAME"},
		Name:      "m 4", DataDir: "/var/lib/e tcd ", UID: 0, GID: 0, Unit: "etcd-m4.service",
	}
}

func TestUnitText(t *testing.T) {
	s := etcdService()
	got, err := s.unitText(unitStarting, "")
	if err != nil {
		t.Fatal(err)
	}
	want := `# Written by etcdops proxy promote, which is under way: it rewrites this file when
# it ends, and removes it when it is undone. Edit it after that.
# etcdops: member "m 4" in "/var/lib/e tcd "

[Unit]
Description=etcd member m 4
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
User=root
Group=root
WorkingDirectory=/var/lib/e tcd /
ExecStart="/opt/100%% etcd/$bin" "etcd" "--auth-token=$$X %%y" ";"
UnsetEnvironment=ETCD_PROXY
Environment="ETCD_NAME=m 4"
Environment="ETCD_INITIAL_CLUSTER_STATE=existing"
Environment="ETCD_DATA_DIR=/var/lib/e tcd "
TimeoutStartSec=infinity
LimitNOFILE=65536
Restart=no

[Install]
WantedBy=multi-user.target
`
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestUnitStages(t *testing.T) {
	for name, test := range map[string]struct {
		stage  unitStage
		dropIn bool
		before string
		has    []string
		hasNot []string
	}{
		"settled": {
			stage: unitSettled, has: []string{"yours to edit", "Restart=on-failure\n", "RestartSec=5\n", "[Install]"}, hasNot: []string{"under way", "Restart=no"},
		},
		"pasted": {
			stage: unitPasted, has: []string{"# /etc/systemd/system/etcd-m4.service\n", "systemctl enable etcd-m4.service", "Restart=on-failure\n"}, hasNot: []string{"# etcdops"},
		},
		"drop-in": {
			stage: unitStarting, dropIn: true, before: "disabled",
			has:    []string{"# before: disabled\n", "ExecStart=\n", "EnvironmentFile=\n", "PassEnvironment=\n", "Environment=\nExecStart=\"/opt", "WatchdogSec=0\n", "Type=notify\n", "Restart=no\n"},
			hasNot: []string{"[Unit]", "[Install]", "User="},
		},
		"settled drop-in": {
			stage: unitSettled, dropIn: true, has: []string{"Restart=on-failure\n"}, hasNot: []string{"# before"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := etcdService()
			s.DropIn = test.dropIn
			text, err := s.unitText(test.stage, test.before)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.has {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, unwanted := range test.hasNot {
				if strings.Contains(text, unwanted) {
					t.Errorf("%q in\n%s", unwanted, text)
				}
			}
		})
	}
}

func TestUnitToPaste(t *testing.T) {
	s := etcdService()
	s.Unit = ""
	if text := UnitToPaste(s); !strings.Contains(text, `# /etc/systemd/system/etcd-m\x204.service`) || !strings.Contains(text, "ExecStart=") {
		t.Errorf("got\n%s", text)
	}
	s.Variables = Variables{{"A", "x\ny"}}
	if text := UnitToPaste(s); text != "" {
		t.Errorf("with a value that can't stand in a unit:\n%s", text)
	}
}

func TestUnitRefusesBinary(t *testing.T) {
	for _, path := range []string{"/opt/it's/etcd", `/opt/"x"/etcd`, `/opt/a\b`} {
		s := etcdService()
		s.Binary.Path = path
		if _, err := s.unitText(unitStarting, ""); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestUnitName(t *testing.T) {
	for name, want := range map[string]string{
		"m4": "etcd-m4.service", "a.b-c_d": "etcd-a.b-c_d.service", "a b/ä": `etcd-a\x20b-\xc3\xa4.service`,
	} {
		if got := UnitName(name); got != want {
			t.Errorf("UnitName(%q) = %q, want %q", name, got, want)
		}
	}
}
