package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// What is waited for here takes a second; the rest is for a loaded machine.
const patience = 60 * time.Second

// A check asserts through t; its name is what the user of the client was promised.
type check struct {
	name string
	run  func(t *test)
}

// test is one running check. Its first failure ends it.
type test struct {
	ctx context.Context
	end []func()
}

type failure struct{ text string }

func (t *test) fail(format string, values ...any) {
	panic(failure{fmt.Sprintf(format, values...)})
}

func (t *test) ok(err error) {
	if err != nil {
		t.fail("%v", err)
	}
}

func (t *test) expect(holds bool, format string, values ...any) {
	if !holds {
		t.fail(format, values...)
	}
}

// later runs when the check has ended, the last first.
func (t *test) later(action func()) { t.end = append(t.end, action) }

func (t *test) eventually(what string, ready func() bool) {
	for limit := time.Now().Add(patience); !ready(); time.Sleep(50 * time.Millisecond) {
		t.expect(time.Now().Before(limit), "not in time: %s", what)
	}
}

// unique gives a name that nobody else uses.
func unique(what string) string {
	var bytes [5]byte
	_, _ = rand.Read(bytes[:])
	return what + "-" + hex.EncodeToString(bytes[:])
}

// attempt runs one check; the text is why it failed.
func attempt(one check) (why string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t := &test{ctx: ctx}
	defer cancel()
	defer func() {
		for index := len(t.end) - 1; index >= 0; index-- {
			t.end[index]()
		}
	}()
	defer func() {
		switch caught := recover().(type) {
		case nil:
		case failure:
			why = caught.text
		default:
			why = fmt.Sprint("panic: ", caught)
		}
	}()
	one.run(t)
	return ""
}

// runAll runs the checks, or those with a word of the command line in their name; the exit code.
func runAll(suite string, checks []check, jobs int) int {
	wanted := func(name string) bool {
		for _, word := range os.Args[1:] {
			if strings.Contains(name, word) {
				return true
			}
		}
		return len(os.Args) == 1
	}
	queue := make(chan check)
	var lock sync.Mutex
	var workers sync.WaitGroup
	var passed, failed int
	began := time.Now()
	for range jobs {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for one := range queue {
				start := time.Now()
				why := attempt(one)
				lock.Lock()
				if why == "" {
					passed++
					fmt.Printf("  ok    %s (%.1f s)\n", one.name, time.Since(start).Seconds())
				} else {
					failed++
					fmt.Printf("  FAIL  %s: %s\n", one.name, strings.ReplaceAll(why, "\n", " | "))
				}
				lock.Unlock()
			}
		}()
	}
	for _, one := range checks {
		if wanted(one.name) {
			queue <- one
		}
	}
	close(queue)
	workers.Wait()
	fmt.Printf("suite %s: %d passed, %d failed, 0 skipped (%.0f s)\n", suite, passed, failed, time.Since(began).Seconds())
	if failed > 0 {
		return 1
	}
	return 0
}
