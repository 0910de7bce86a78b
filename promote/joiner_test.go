package promote

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestServesHasALimit waits for an etcd that never opens its socket.
func TestServesHasALimit(t *testing.T) {
	j := &Joiner{Socket: filepath.Join(t.TempDir(), "none")}
	synctest.Test(t, func(t *testing.T) {
		var reports []time.Duration
		report := func(waited time.Duration, last error) {
			if last == nil {
				t.Error("reported without a last answer")
			}
			reports = append(reports, waited.Round(time.Second))
		}
		err := j.Serves(t.Context(), fakeLearner, nil, 12*time.Second, report)
		if !as[*ServeTimeoutError](err) || !strings.Contains(err.Error(), "no such file") || hopeless(StepServe, err) {
			t.Errorf("got %v", err)
		}
		if want := []time.Duration{5 * time.Second, 10 * time.Second}; !slices.Equal(reports, want) {
			t.Errorf("reported after %v, want %v", reports, want)
		}
	})
}
