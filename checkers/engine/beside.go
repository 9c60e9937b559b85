package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// besideAfter is how long a search has been alone when a second one starts: most keys need far less.
const besideAfter = time.Second

// rival is a second frontier search on the same key, with another taste, on a goroutine of its own. What one order of
// trying things is lost in, another may walk straight through.
type rival struct {
	timer *time.Timer
	stop  atomic.Bool
	ready atomic.Pointer[frontier]
	begun sync.WaitGroup
	once  sync.Once
}

// beside starts one after a while.
func (c *checker) beside(j *job, place int, items []item, l *local) *rival {
	s := &rival{}
	s.begun.Add(1)
	s.timer = time.AfterFunc(besideAfter, func() {
		defer s.begun.Done()
		own := items
		var m machine
		if c.m.compile != nil { // a machine numbers states as it goes, so each search has its own
			m, own = c.m.compile(c.h, c.m, c.h.of[place])
		}
		f := newFrontier(newTimeline(own, l), m)
		given := j.stopper(j.deadline)
		f.taste = venturesome
		f.stop = func() bool { return s.stop.Load() || given() }
		from := []int32{0}
		if m != nil {
			from = []int32{m.initial()}
		}
		if f.result = f.search(from, narrow*widen, widest); f.result != unknown {
			s.ready.Store(f)
		}
	})
	return s
}

// decided tells whether it knows the answer.
func (s *rival) decided() bool { return s.ready.Load() != nil }

// end stops it, and returns it if it had decided.
func (s *rival) end() *frontier {
	s.once.Do(func() {
		if s.timer.Stop() {
			s.begun.Done()
		}
		s.stop.Store(true)
		s.begun.Wait()
	})
	return s.ready.Load()
}
