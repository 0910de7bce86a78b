package commands

import "github.com/fatih/color"

// Values of --color.
const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

// Palette is the colours of one output stream, each switched on or off for
// itself: the library's global switch looks at standard output alone.
type Palette struct {
	Good   *color.Color // it works
	Warn   *color.Color // it works, and deserves a look
	Bad    *color.Color // it does not work
	Faint  *color.Color // beside the point
	Strong *color.Color // headings
}

// newPalette makes the colours of a stream that shows them, or of one that
// does not.
func newPalette(on bool) Palette {
	paint := func(attributes ...color.Attribute) *color.Color {
		c := color.New(attributes...)
		if on {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
		return c
	}
	return Palette{
		Good:   paint(color.FgGreen),
		Warn:   paint(color.FgYellow),
		Bad:    paint(color.FgRed, color.Bold),
		Faint:  paint(color.Faint),
		Strong: paint(color.Bold),
	}
}

// wantsColor is the one place that decides about colours. mode is the value of
// --color, empty for auto. It beats NO_COLOR (https://no-color.org: any value
// but an empty one), which beats the terminal.
func wantsColor(mode string, terminal bool, getenv func(string) string) bool {
	switch mode {
	case colorAlways:
		return true
	case colorNever:
		return false
	}
	return terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
