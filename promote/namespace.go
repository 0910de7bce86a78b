package promote

import (
	"fmt"
	"os"
)

// SharesNetwork tells whether the process lives in our network namespace, so
// that what we start here can bind its ports. Where it can't be told, it is
// taken to.
func (p Process) SharesNetwork() bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.PID))
	if err != nil {
		return true
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	return err != nil || ours == theirs
}
