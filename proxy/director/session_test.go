package director

import (
	"errors"
	"slices"
	"testing"
)

func TestSession(t *testing.T) {
	d := newDirector(t, nil)
	s, urls, other := d.NewSession(), living(t, 3), newFaulty(t).url()
	if _, err := s.Endpoint(true); !errors.Is(err, ErrNoEndpoints) {
		t.Fatal(err)
	}
	d.Update(members(urls...))
	get := func(quiet bool) *Endpoint {
		t.Helper()
		e, err := s.Endpoint(quiet)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := get(true)
	for range 10 {
		if get(true) != first {
			t.Fatal("it does not stick")
		}
	}
	t.Run("a shuffle moves it at a quiet moment", func(t *testing.T) {
		moved := false
		for range 50 {
			d.Update(members(urls...))
			here := s.ep
			if get(false) != here {
				t.Fatal("moved with something under way")
			}
			moved = get(true) != here || moved
		}
		if !moved {
			t.Error("it never moves")
		}
	})
	t.Run("it leaves a condemned member", func(t *testing.T) {
		here := get(true)
		here.down.Store(true)
		if get(false) == here {
			t.Error("stayed")
		}
		here.down.Store(false)
	})
	t.Run("where all are condemned, health does not count", func(t *testing.T) {
		here := get(true)
		for _, e := range d.order {
			e.down.Store(true)
		}
		if get(false) != here {
			t.Error("moved for nothing")
		}
		if urls := d.Available(); len(urls) != 3 {
			t.Error(urls)
		}
		for _, e := range d.order {
			e.down.Store(false)
		}
	})
	t.Run("next goes round all", func(t *testing.T) {
		tried := []*Endpoint{get(true)}
		tried[0].down.Store(true)
		for len(tried) < 3 {
			e, err := s.Next(tried)
			if err != nil || slices.Contains(tried, e) || s.ep != e {
				t.Fatal(e, err)
			}
			tried = append(tried, e)
		}
		if _, err := s.Next(tried); !errors.Is(err, ErrNoEndpoints) || s.ep != tried[2] {
			t.Error(err)
		}
		if e, err := s.Next(tried[1:]); err != nil || e != tried[0] {
			t.Error("the condemned one is the last resort", err)
		}
		tried[0].down.Store(false)
	})
	t.Run("it leaves a member that left", func(t *testing.T) {
		here := get(true)
		d.Update(members(other))
		if e := get(false); e == here || e.URL != other {
			t.Error(e)
		}
	})
	s.Close()
	if _, err := s.Endpoint(true); err != nil || d.States()[0].Connections != 0 {
		t.Error("a closed session counts", err)
	}
}
