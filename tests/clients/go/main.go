// The Go client of the Docker Engine: the one that the docker command is made with, with types that know what may be
// absent. Run by tests/clients/run.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

func connect(t *test, options ...client.Opt) *client.Client {
	made, err := client.New(append([]client.Opt{client.FromEnv}, options...)...)
	t.ok(err)
	t.later(func() { _ = made.Close() })
	return made
}

// create makes a container that goes when the check has ended.
func create(t *test, docker *client.Client, config container.Config, host container.HostConfig) string {
	if config.Image == "" {
		config.Image = "busybox"
	}
	if config.Cmd == nil {
		config.Cmd = []string{"sleep", "1000"}
	}
	made, err := docker.ContainerCreate(t.ctx, client.ContainerCreateOptions{Config: &config, HostConfig: &host, Name: unique("go")})
	t.ok(err)
	t.later(func() {
		_, _ = docker.ContainerRemove(t.ctx, made.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	})
	return made.ID
}

func start(t *test, docker *client.Client, config container.Config, host container.HostConfig) string {
	id := create(t, docker, config, host)
	_, err := docker.ContainerStart(t.ctx, id, client.ContainerStartOptions{})
	t.ok(err)
	return id
}

func inspect(t *test, docker *client.Client, id string) container.InspectResponse {
	found, err := docker.ContainerInspect(t.ctx, id, client.ContainerInspectOptions{})
	t.ok(err)
	return found.Container
}

func wait(t *test, docker *client.Client, id string, condition container.WaitCondition) int64 {
	waiting := docker.ContainerWait(t.ctx, id, client.ContainerWaitOptions{Condition: condition})
	select {
	case ended := <-waiting.Result:
		return ended.StatusCode
	case err := <-waiting.Error:
		t.fail("wait: %v", err)
	}
	return -1
}

// inside gives both sides of a command's output and its exit code.
func inside(t *test, docker *client.Client, id string, command ...string) (string, string, int) {
	made, err := docker.ExecCreate(t.ctx, id, client.ExecCreateOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	t.ok(err)
	stream, err := docker.ExecAttach(t.ctx, made.ID, client.ExecAttachOptions{})
	t.ok(err)
	defer stream.Close()
	var out, wrong bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &wrong, stream.Reader)
	t.ok(err)
	ended, err := docker.ExecInspect(t.ctx, made.ID, client.ExecInspectOptions{})
	t.ok(err)
	return out.String(), wrong.String(), ended.ExitCode
}

func main() {
	os.Exit(runAll("client-go", []check{
		{"the_version_is_negotiated", theVersionIsNegotiated},
		{"settings_arrive", settingsArrive},
		{"lists_have_filters", listsHaveFilters},
		{"life_from_create_to_remove", lifeFromCreateToRemove},
		{"attach_both_ways", attachBothWays},
		{"exec_gives_sides_and_code", execGivesSidesAndCode},
		{"logs_are_followed", logsAreFollowed},
		{"stats_are_read", statsAreRead},
		{"archives_in_and_out", archivesInAndOut},
		{"images_have_names_and_travel", imagesHaveNamesAndTravel},
		{"volumes_and_networks", volumesAndNetworks},
		{"events_are_told", eventsAreTold},
		{"errors_have_kinds", errorsHaveKinds},
		{"mutual_tls", mutualTLS},
	}, 4))
}

func theVersionIsNegotiated(t *test) {
	docker := connect(t)
	pong, err := docker.Ping(t.ctx, client.PingOptions{NegotiateAPIVersion: true})
	t.ok(err)
	t.expect(pong.OSType == "linux" && pong.APIVersion != "", "%+v", pong)
	version, err := docker.ServerVersion(t.ctx, client.ServerVersionOptions{})
	t.ok(err)
	t.expect(version.APIVersion == pong.APIVersion && version.Os == "linux", "%+v", version)
	t.expect(docker.ClientVersion() <= pong.APIVersion, "the client speaks %s", docker.ClientVersion())
	info, err := docker.Info(t.ctx, client.InfoOptions{})
	t.ok(err)
	t.expect(info.Info.OSType == "linux" && info.Info.NCPU > 0, "%+v", info.Info)
	_, err = docker.DiskUsage(t.ctx, client.DiskUsageOptions{})
	t.ok(err)
}

func settingsArrive(t *test) {
	docker := connect(t)
	web := network.MustParsePort("80/tcp")
	limit, yes := int64(50), true
	id := start(t, docker, container.Config{
		Env: []string{"A=b c"}, WorkingDir: "/tmp", User: "1:2", Hostname: "named", Labels: map[string]string{"own": "x"},
		ExposedPorts: network.PortSet{web: {}},
	}, container.HostConfig{
		Binds: []string{os.Getenv("IECHOR_TEST_FOLDER") + ":/host:ro"}, Tmpfs: map[string]string{"/scratch": "size=1m"},
		PortBindings:   network.PortMap{web: {{HostIP: netip.MustParseAddr("127.0.0.1")}}},
		DNS:            []netip.Addr{netip.MustParseAddr("10.9.8.7")},
		ReadonlyRootfs: true, CapDrop: []string{"ALL"}, Init: &yes,
		Resources: container.Resources{Memory: 64 << 20, PidsLimit: &limit},
	})
	out, _, _ := inside(t, docker, id, "sh", "-c", "echo $A; pwd; id -u; hostname; ls -d /host/certs; cat /etc/resolv.conf")
	t.expect(strings.HasPrefix(out, "b c\n/tmp\n1\nnamed\n/host/certs\n"), "%q", out)
	t.expect(strings.Contains(out, "10.9.8.7"), "%q", out)
	found := inspect(t, docker, id)
	t.expect(found.HostConfig.Memory == 64<<20 && *found.HostConfig.PidsLimit == 50, "%+v", found.HostConfig)
	bound := found.NetworkSettings.Ports[web]
	t.expect(len(bound) == 1 && bound[0].HostIP.String() == "127.0.0.1" && bound[0].HostPort != "", "%+v", bound)
	_, wrong, code := inside(t, docker, id, "touch", "/host/new")
	t.expect(code != 0 && strings.Contains(wrong, "Read-only"), "%d %q", code, wrong)
}

func listsHaveFilters(t *test) {
	docker := connect(t)
	label := unique("label")
	id := create(t, docker, container.Config{Labels: map[string]string{label: ""}}, container.HostConfig{})
	filters := make(client.Filters).Add("label", label)
	for all, count := range map[bool]int{true: 1, false: 0} {
		list, err := docker.ContainerList(t.ctx, client.ContainerListOptions{All: all, Filters: filters})
		t.ok(err)
		t.expect(len(list.Items) == count, "all %v: %+v", all, list.Items)
		for _, one := range list.Items {
			t.expect(one.ID == id && one.State == container.StateCreated, "%+v", one)
		}
	}
}

func lifeFromCreateToRemove(t *test) {
	docker := connect(t)
	id := start(t, docker, container.Config{}, container.HostConfig{})
	_, err := docker.ContainerPause(t.ctx, id, client.ContainerPauseOptions{})
	t.ok(err)
	t.expect(inspect(t, docker, id).State.Status == container.StatePaused, "it is not paused")
	_, err = docker.ContainerUnpause(t.ctx, id, client.ContainerUnpauseOptions{})
	t.ok(err)
	before, none := inspect(t, docker, id).State.Pid, 0
	_, err = docker.ContainerRestart(t.ctx, id, client.ContainerRestartOptions{Timeout: &none})
	t.ok(err)
	t.expect(inspect(t, docker, id).State.Pid != before, "it is the same process")
	other := unique("renamed")
	_, err = docker.ContainerRename(t.ctx, id, client.ContainerRenameOptions{NewName: other})
	t.ok(err)
	t.expect(inspect(t, docker, other).ID == id, "it has the other name")
	resources := container.Resources{Memory: 96 << 20, MemorySwap: 96 << 20}
	_, err = docker.ContainerUpdate(t.ctx, id, client.ContainerUpdateOptions{Resources: &resources})
	t.ok(err)
	t.expect(inspect(t, docker, id).HostConfig.Memory == 96<<20, "it has the limit")
	shown, err := docker.ContainerTop(t.ctx, id, client.ContainerTopOptions{})
	t.ok(err)
	t.expect(len(shown.Processes) == 1 && len(shown.Titles) == len(shown.Processes[0]), "%+v", shown)
	_, err = docker.ContainerKill(t.ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"})
	t.ok(err)
	t.expect(wait(t, docker, id, container.WaitConditionNotRunning) == 137, "killed")
	_, err = docker.ContainerKill(t.ctx, id, client.ContainerKillOptions{})
	t.expect(errdefs.IsConflict(err), "%v", err)
	// Stopping what does not run is no error.
	_, err = docker.ContainerStop(t.ctx, id, client.ContainerStopOptions{Timeout: &none})
	t.ok(err)
}

func attachBothWays(t *test) {
	docker := connect(t)
	id := create(t, docker, container.Config{
		Cmd: []string{"sh", "-c", "read line; echo \"got $line\"; echo err >&2"}, OpenStdin: true, StdinOnce: true,
	}, container.HostConfig{})
	stream, err := docker.ContainerAttach(t.ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	t.ok(err)
	defer stream.Close()
	_, err = docker.ContainerStart(t.ctx, id, client.ContainerStartOptions{})
	t.ok(err)
	_, err = stream.Conn.Write([]byte("typed\n"))
	t.ok(err)
	t.ok(stream.CloseWrite())
	var out, wrong bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &wrong, stream.Reader)
	t.ok(err)
	t.expect(out.String() == "got typed\n" && wrong.String() == "err\n", "%q %q", out.String(), wrong.String())
}

func execGivesSidesAndCode(t *test) {
	docker := connect(t)
	id := start(t, docker, container.Config{}, container.HostConfig{})
	out, wrong, code := inside(t, docker, id, "sh", "-c", "echo out; echo err >&2; exit 5")
	t.expect(out == "out\n" && wrong == "err\n" && code == 5, "%q %q %d", out, wrong, code)
	made, err := docker.ExecCreate(t.ctx, id, client.ExecCreateOptions{
		Cmd: []string{"stty", "size"}, TTY: true, AttachStdout: true, ConsoleSize: client.ConsoleSize{Height: 33, Width: 99},
	})
	t.ok(err)
	stream, err := docker.ExecAttach(t.ctx, made.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: client.ConsoleSize{Height: 33, Width: 99}})
	t.ok(err)
	defer stream.Close()
	seen, err := io.ReadAll(stream.Reader)
	t.ok(err)
	t.expect(strings.TrimSpace(string(seen)) == "33 99", "%q", seen)
}

func logsAreFollowed(t *test) {
	docker := connect(t)
	id := start(t, docker, container.Config{
		Cmd: []string{"sh", "-c", "echo 1; while ! [ -e /go ]; do sleep 0.05; done; echo 2"},
	}, container.HostConfig{})
	stream, err := docker.ContainerLogs(t.ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
	t.ok(err)
	defer func() { _ = stream.Close() }()
	inside(t, docker, id, "touch", "/go")
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&out, io.Discard, stream)
	t.ok(err)
	t.expect(out.String() == "1\n2\n", "%q", out.String())
}

func statsAreRead(t *test) {
	docker := connect(t)
	id := start(t, docker, container.Config{}, container.HostConfig{Resources: container.Resources{Memory: 64 << 20}})
	answer, err := docker.ContainerStats(t.ctx, id, client.ContainerStatsOptions{Stream: true})
	t.ok(err)
	defer func() { _ = answer.Body.Close() }()
	decoder := json.NewDecoder(answer.Body)
	var first, second container.StatsResponse
	t.ok(decoder.Decode(&first))
	t.ok(decoder.Decode(&second))
	t.expect(second.Read.After(first.Read) && second.ID == id, "%v %v", first.Read, second.Read)
	t.expect(second.MemoryStats.Limit == 64<<20 && second.PidsStats.Current >= 1, "%+v", second.MemoryStats)
}

func archivesInAndOut(t *test) {
	docker := connect(t)
	id := start(t, docker, container.Config{}, container.HostConfig{})
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	t.ok(writer.WriteHeader(&tar.Header{Name: "file", Size: 5, Mode: 0o640}))
	_, err := writer.Write([]byte("kept\n"))
	t.ok(err)
	t.ok(writer.Close())
	_, err = docker.CopyToContainer(t.ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: &archive})
	t.ok(err)
	out, _, _ := inside(t, docker, id, "cat", "/tmp/file")
	t.expect(out == "kept\n", "%q", out)
	copied, err := docker.CopyFromContainer(t.ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/file"})
	t.ok(err)
	defer func() { _ = copied.Content.Close() }()
	t.expect(copied.Stat.Name == "file" && copied.Stat.Size == 5, "%+v", copied.Stat)
	reader := tar.NewReader(copied.Content)
	_, err = reader.Next()
	t.ok(err)
	content, err := io.ReadAll(reader)
	t.ok(err)
	t.expect(string(content) == "kept\n", "%q", content)
	changed, err := docker.ContainerDiff(t.ctx, id, client.ContainerDiffOptions{})
	t.ok(err)
	t.expect(len(changed.Changes) > 0, "%+v", changed)
}

func imagesHaveNamesAndTravel(t *test) {
	docker := connect(t)
	id := create(t, docker, container.Config{}, container.HostConfig{})
	name := unique("image")
	made, err := docker.ContainerCommit(t.ctx, id, client.ContainerCommitOptions{Reference: name + ":v1", Comment: "why"})
	t.ok(err)
	_, err = docker.ImageTag(t.ctx, client.ImageTagOptions{Source: name + ":v1", Target: name + ":v2"})
	t.ok(err)
	saved, err := docker.ImageSave(t.ctx, []string{name + ":v1"})
	t.ok(err)
	archive, err := io.ReadAll(saved)
	t.ok(err)
	_ = saved.Close()
	_, err = docker.ImageRemove(t.ctx, made.ID, client.ImageRemoveOptions{Force: true})
	t.ok(err)
	_, err = docker.ImageInspect(t.ctx, name+":v1")
	t.expect(errdefs.IsNotFound(err), "%v", err)
	loaded, err := docker.ImageLoad(t.ctx, bytes.NewReader(archive))
	t.ok(err)
	_, err = io.Copy(io.Discard, loaded)
	t.ok(err)
	_ = loaded.Close()
	found, err := docker.ImageInspect(t.ctx, name+":v1")
	t.ok(err)
	t.expect(found.ID == made.ID && found.Comment == "why", "%+v", found)
	_, err = docker.ImageRemove(t.ctx, name+":v1", client.ImageRemoveOptions{})
	t.ok(err)

	remote := os.Getenv("IECHOR_TEST_REGISTRY") + "/library/busybox:v1"
	pull, err := docker.ImagePull(t.ctx, remote, client.ImagePullOptions{})
	t.ok(err)
	t.ok(pull.Wait(t.ctx))
	_, err = docker.ImageRemove(t.ctx, remote, client.ImageRemoveOptions{})
	t.ok(err)
	_, err = docker.ImagePush(t.ctx, remote, client.ImagePushOptions{})
	t.expect(err != nil && strings.Contains(err.Error(), "pushing images"), "%v", err)
}

func volumesAndNetworks(t *test) {
	docker := connect(t)
	name := unique("volume")
	made, err := docker.VolumeCreate(t.ctx, client.VolumeCreateOptions{Name: name, Labels: map[string]string{"own": name}})
	t.ok(err)
	_, err = os.Stat(made.Volume.Mountpoint)
	t.ok(err)
	list, err := docker.VolumeList(t.ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", "own="+name)})
	t.ok(err)
	t.expect(len(list.Items) == 1 && list.Items[0].Name == name, "%+v", list.Items)
	_, err = docker.VolumeRemove(t.ctx, name, client.VolumeRemoveOptions{})
	t.ok(err)
	_, err = docker.VolumeInspect(t.ctx, name, client.VolumeInspectOptions{})
	t.expect(errdefs.IsNotFound(err), "%v", err)
	networks, err := docker.NetworkList(t.ctx, client.NetworkListOptions{})
	t.ok(err)
	t.expect(len(networks.Items) == 3, "%+v", networks.Items)
	_, err = docker.NetworkCreate(t.ctx, unique("network"), client.NetworkCreateOptions{})
	t.expect(errdefs.IsNotImplemented(err), "%v", err)
}

func eventsAreTold(t *test) {
	docker := connect(t)
	id := create(t, docker, container.Config{Cmd: []string{"true"}}, container.HostConfig{})
	told := docker.Events(t.ctx, client.EventsListOptions{Filters: make(client.Filters).Add("container", id), Since: "0"})
	_, err := docker.ContainerStart(t.ctx, id, client.ContainerStartOptions{})
	t.ok(err)
	wait(t, docker, id, container.WaitConditionNotRunning)
	seen := map[events.Action]bool{}
	for !seen[events.ActionDie] {
		select {
		case one := <-told.Messages:
			t.expect(one.Actor.ID == id && one.Type == events.ContainerEventType && one.TimeNano > 0, "%+v", one)
			seen[one.Action] = true
		case err := <-told.Err:
			t.fail("events: %v (%v)", err, seen)
		}
	}
	t.expect(seen[events.ActionStart], "%v", seen)
}

func errorsHaveKinds(t *test) {
	docker := connect(t)
	_, err := docker.ContainerInspect(t.ctx, "nobody", client.ContainerInspectOptions{})
	t.expect(errdefs.IsNotFound(err) && strings.Contains(err.Error(), "No such container: nobody"), "%v", err)
	_, err = docker.ContainerCreate(t.ctx, client.ContainerCreateOptions{Config: &container.Config{Image: unique("absent") + ":v1"}})
	t.expect(errdefs.IsNotFound(err), "%v", err)
	id := start(t, docker, container.Config{}, container.HostConfig{})
	_, err = docker.ContainerRemove(t.ctx, id, client.ContainerRemoveOptions{})
	t.expect(errdefs.IsConflict(err), "%v", err)
	_, err = docker.ContainerCreate(t.ctx, client.ContainerCreateOptions{Config: &container.Config{Image: "busybox"}, Name: "a b"})
	t.expect(errdefs.IsInvalidArgument(err), "%v", err)
}

func mutualTLS(t *test) {
	file := func(name string) string { return filepath.Join(os.Getenv("IECHOR_TEST_CERTS"), name) }
	host := os.Getenv("IECHOR_TEST_TLS_HOST")
	known, err := client.New(client.WithHost(host), client.WithTLSClientConfig(file("ca.pem"), file("cert.pem"), file("key.pem")))
	t.ok(err)
	id := start(t, known, container.Config{}, container.HostConfig{})
	out, _, _ := inside(t, known, id, "echo", "safe")
	t.expect(out == "safe\n", "%q", out)
	stranger, err := client.New(client.WithHost(host), client.WithTLSClientConfig(file("ca.pem"), "", ""))
	t.ok(err)
	_, err = stranger.Ping(t.ctx, client.PingOptions{})
	t.expect(err != nil, "who has no certificate was answered")
}
