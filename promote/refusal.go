package promote

import "fmt"

// Refusal is one reason not to begin a promotion. Looking for reasons changes
// nothing, and all of them are found at once.
type Refusal struct {
	// Check is the short, stable name of what was looked at. docs/promote.md
	// lists them all.
	Check string `json:"check"`
	// Problem is one line that names the culprit.
	Problem string `json:"problem"`
	// Hint is what to type or to do next.
	Hint string `json:"hint"`
}

// AlreadyAdded is the check that finds the new member in the cluster's list:
// added earlier with the same peer URLs and never started. It is a promotion to
// continue rather than a reason to refuse, which the caller decides.
const AlreadyAdded = "already-added"

// refusals collects the reasons of one check.
type refusals []Refusal

func (r *refusals) add(check, hint, problem string, args ...any) {
	*r = append(*r, Refusal{Check: check, Problem: fmt.Sprintf(problem, args...), Hint: hint})
}
