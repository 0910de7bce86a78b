package discover

import (
	"slices"
	"testing"
)

func TestSkew(t *testing.T) {
	for _, test := range []struct {
		name     string
		versions []string
		marked   []int
	}{
		{"the same", []string{"3.6.16", "3.6.16", "3.6.1"}, nil},
		{"an upgrade under way", []string{"3.5.35", "3.6.16", "3.6.16"}, nil},
		{"two minors", []string{"3.4.23", "3.6.16", "3.6.16"}, []int{0, 1, 2}},
		{"two minors, with one between", []string{"3.4.23", "3.5.35", "3.6.16"}, []int{0, 2}},
		{"another major", []string{"2.3.8", "3.0.17"}, []int{0, 1}},
		{"one that is not known", []string{"", "3.4.23", "3.5.35"}, nil},
		{"a release candidate", []string{"3.7.0-rc.1", "3.5.35"}, []int{0, 1}},
		{"nonsense", []string{"x", "3", "3.y", "3.7.1"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows := make([]MemberStatus, len(test.versions))
			for i, v := range test.versions {
				rows[i] = MemberStatus{Name: "m", Version: v}
			}
			markSkew(rows)
			var marked []int
			for i, row := range rows {
				if row.Skew != "" {
					marked = append(marked, i)
				}
			}
			if !slices.Equal(marked, test.marked) {
				t.Errorf("marked %v, want %v", marked, test.marked)
			}
		})
	}
}
