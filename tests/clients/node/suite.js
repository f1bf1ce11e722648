// dockerode, of npm: its everyday calls on the socket and over mutual TLS. Run by tests/clients/run.
'use strict';
const assert = require('assert');
const fs = require('fs');
const path = require('path');
const { Readable, PassThrough } = require('stream');
const { eventually, run, unique } = require('./checks');

const Docker = require(path.join(process.env.IECHOR_TEST_TOOLS, 'client-node/node_modules/dockerode'));
const docker = new Docker(); // reads DOCKER_HOST

/** All bytes of a stream. */
async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

/** Both sides of a stream with frames, as text. */
async function sides(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  const ended = new Promise((done) => stream.once('end', done).once('close', done));
  const texts = [all(out), all(err)];
  await ended;
  out.end();
  err.end();
  return (await Promise.all(texts)).map(String);
}

/** The lines that a stream of progress ends with. */
const progress = (stream) =>
  new Promise((done, fail) => docker.modem.followProgress(stream, (error, lines) => (error ? fail(error) : done(lines))));

/** A container for as long as `use` takes. */
async function container(settings, use) {
  const made = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'], name: unique('node'), ...settings });
  try {
    return await use(made);
  } finally {
    await made.remove({ force: true, v: true }).catch((failure) => assert.strictEqual(failure.statusCode, 404));
  }
}

const started = (settings, use) =>
  container(settings, async (made) => {
    await made.start();
    return use(made);
  });

/** Output of a command in a running container. */
async function inside(made, ...command) {
  const exec = await made.exec({ Cmd: command, AttachStdout: true, AttachStderr: true });
  const [out, err] = await sides(await exec.start({ hijack: true, stdin: false }));
  const { ExitCode } = await exec.inspect();
  return { out, err, code: ExitCode };
}

const checks = [
  async function the_daemon_says_what_it_is() {
    assert.strictEqual(String(await docker.ping()), 'OK');
    const version = await docker.version();
    assert.strictEqual(version.Os, 'linux');
    assert.strictEqual((await docker.info()).OSType, 'linux');
    assert.ok((await docker.df()).ImageUsage.TotalCount > 0);
  },

  async function run_gives_output_and_code() {
    const out = new PassThrough();
    const text = all(out);
    const [result, made] = await docker.run('busybox', ['sh', '-c', 'echo hello; exit 3'], out, { Tty: false });
    await made.remove();
    assert.strictEqual(result.StatusCode, 3);
    assert.match(String(await text), /hello/);
  },

  async function settings_arrive() {
    const settings = {
      Env: ['A=b c'], WorkingDir: '/tmp', User: '1:2', Hostname: 'named', Labels: { own: 'x' },
      ExposedPorts: { '80/tcp': {} },
      HostConfig: {
        Memory: 64 << 20, PidsLimit: 50, ReadonlyRootfs: true, CapDrop: ['ALL'], Init: true,
        PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] },
        Binds: [`${process.env.IECHOR_TEST_FOLDER}:/host:ro`], Tmpfs: { '/scratch': 'size=1m' },
      },
    };
    await started(settings, async (made) => {
      const { out } = await inside(made, 'sh', '-c', 'echo $A; pwd; id -u; hostname; ls -d /host/certs');
      assert.strictEqual(out, 'b c\n/tmp\n1\nnamed\n/host/certs\n');
      const found = await made.inspect();
      assert.strictEqual(found.HostConfig.Memory, 64 << 20);
      assert.ok(Number(found.NetworkSettings.Ports['80/tcp'][0].HostPort) > 0);
      const refused = await inside(made, 'touch', '/host/new');
      assert.notStrictEqual(refused.code, 0);
      assert.match(refused.err, /Read-only/);
    });
  },

  async function lists_have_filters() {
    const label = unique('label');
    await container({ Labels: { [label]: '' } }, async (made) => {
      const list = (all) => docker.listContainers({ all, filters: { label: [label] } });
      assert.deepStrictEqual((await list(true)).map((one) => one.Id), [made.id]);
      assert.deepStrictEqual(await list(false), []);
    });
  },

  async function life_from_create_to_remove() {
    await started({}, async (made) => {
      const status = async () => (await made.inspect()).State.Status;
      await made.pause();
      assert.strictEqual(await status(), 'paused');
      await made.unpause();
      const before = (await made.inspect()).State.Pid;
      await made.restart({ t: 0 });
      assert.notStrictEqual((await made.inspect()).State.Pid, before);
      const other = unique('renamed');
      await made.rename({ name: other });
      assert.strictEqual((await docker.getContainer(other).inspect()).Id, made.id);
      await made.update({ Memory: 96 << 20, MemorySwap: 96 << 20 });
      assert.strictEqual((await made.inspect()).HostConfig.Memory, 96 << 20);
      const ended = made.wait();
      await made.kill({ signal: 'SIGKILL' });
      assert.strictEqual((await ended).StatusCode, 137);
      await assert.rejects(made.kill(), (failure) => failure.statusCode === 409);
      await made.start();
      await made.stop({ t: 0 });
      // A second time: Docker's 304, which dockerode makes an error of.
      await assert.rejects(made.stop(), (failure) => failure.statusCode === 304);
    });
  },

  async function attach_both_ways() {
    await container({ Cmd: ['sh', '-c', 'read line; echo "got $line"; echo err >&2'], OpenStdin: true, StdinOnce: true }, async (made) => {
      const stream = await made.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
      const texts = sides(stream);
      await made.start();
      stream.write('typed\n');
      stream.end();
      assert.deepStrictEqual(await texts, ['got typed\n', 'err\n']);
    });
  },

  async function a_terminal_has_its_size() {
    await started({ Cmd: ['sh'], Tty: true, OpenStdin: true }, async (made) => {
      const stream = await made.attach({ stream: true, stdin: true, stdout: true, hijack: true });
      let seen = '';
      stream.on('data', (part) => { seen += part; });
      await made.resize({ h: 31, w: 97 });
      stream.write('stty size\n');
      await eventually('the size is told', () => seen.includes('31 97'));
      stream.write('exit 6\n');
      assert.strictEqual((await made.wait()).StatusCode, 6);
    });
  },

  async function exec_takes_input() {
    await started({}, async (made) => {
      const exec = await made.exec({ Cmd: ['sh', '-c', 'cat; exit 4'], AttachStdin: true, AttachStdout: true });
      const stream = await exec.start({ hijack: true, stdin: true });
      const texts = sides(stream);
      stream.write('to and fro');
      stream.end();
      assert.strictEqual((await texts)[0], 'to and fro');
      await eventually('the exec has ended', async () => !(await exec.inspect()).Running);
      assert.strictEqual((await exec.inspect()).ExitCode, 4);
    });
  },

  async function logs_whole_and_followed() {
    await started({ Cmd: ['sh', '-c', 'echo 1; echo 2 >&2; while ! [ -e /go ]; do sleep 0.05; done; echo 3'] }, async (made) => {
      await eventually('the first lines', async () => (await made.logs({ stdout: true, stderr: true })).length >= 20);
      const followed = sides(await made.logs({ stdout: true, stderr: true, follow: true }));
      await inside(made, 'touch', '/go');
      assert.deepStrictEqual(await followed, ['1\n3\n', '2\n']);
    });
  },

  async function stats_and_top() {
    await started({}, async (made) => {
      assert.ok((await made.stats({ stream: false })).memory_stats.usage > 0);
      const stream = await made.stats();
      const first = await new Promise((done) => stream.once('data', done));
      assert.strictEqual(JSON.parse(first).id, made.id);
      stream.destroy();
      assert.match((await made.top()).Processes[0].join(' '), /sleep 1000/);
    });
  },

  async function archives_in_and_out() {
    await started({}, async (made) => {
      await inside(made, 'sh', '-c', 'mkdir /from /to; echo kept > /from/file');
      const archive = await all(await made.getArchive({ path: '/from/file' }));
      await made.putArchive(archive, { path: '/to' });
      assert.strictEqual((await inside(made, 'cat', '/to/file')).out, 'kept\n');
      const changes = await made.changes();
      assert.ok(changes.some((change) => change.Path === '/to/file' && change.Kind === 1));
      const whole = await all(await made.export());
      assert.ok(whole.length > 512 && whole.includes('to/file'));
    });
  },

  async function images_have_names_and_travel() {
    const name = unique('image');
    await container({}, async (made) => made.commit({ repo: name, tag: 'v1', comment: 'why' }));
    const image = docker.getImage(`${name}:v1`);
    const id = (await image.inspect()).Id;
    await image.tag({ repo: name, tag: 'v2' });
    const archive = await all(await image.get());
    await docker.getImage(id).remove({ force: true });
    await assert.rejects(image.inspect(), (failure) => failure.statusCode === 404);
    await progress(await docker.loadImage(Readable.from([archive])));
    assert.strictEqual((await image.inspect()).Id, id);
    assert.strictEqual((await image.history())[0].Comment, 'why');
    assert.strictEqual((await docker.listImages({ filters: { reference: [`${name}:*`] } })).length, 1);
    await image.remove();
  },

  async function a_pull_from_a_registry() {
    const name = `${process.env.IECHOR_TEST_REGISTRY}/clients/pull:v1`;
    const lines = await progress(await docker.pull(name));
    assert.ok(lines.some((line) => /Downloaded newer image/.test(line.status)), JSON.stringify(lines));
    const image = docker.getImage(name);
    assert.deepStrictEqual((await image.inspect()).Config.Labels, { of: 'clients/pull' });
    await assert.rejects(image.push({}), (failure) => failure.statusCode === 501 && /pushing images/.test(failure.message));
    await image.remove();
  },

  async function a_pull_of_nothing_fails() {
    const name = `${process.env.IECHOR_TEST_REGISTRY}/node/${unique('nothing')}`;
    await assert.rejects(docker.pull(`${name}:v1`).then(progress), /not found|unknown/);
  },

  async function volumes_and_networks() {
    const name = unique('volume');
    const volume = await docker.createVolume({ Name: name, Labels: { own: name } });
    const made = await docker.getVolume(name).inspect();
    assert.ok(fs.statSync(made.Mountpoint).isDirectory());
    const listed = await docker.listVolumes({ filters: { label: [`own=${name}`] } });
    assert.deepStrictEqual(listed.Volumes.map((one) => one.Name), [name]);
    await (volume.remove ? volume : docker.getVolume(name)).remove();
    const names = (await docker.listNetworks()).map((network) => network.Name);
    assert.ok(['bridge', 'host', 'none'].every((one) => names.includes(one)));
    await assert.rejects(docker.createNetwork({ Name: unique('network') }), (failure) => failure.statusCode === 501);
  },

  async function events_are_told() {
    const name = unique('events');
    const stream = await docker.getEvents({ filters: { container: [name] } });
    let text = '';
    stream.on('data', (part) => { text += part; });
    await started({ name, Cmd: ['true'] }, (made) => made.wait());
    await eventually('the removal is told', () => text.includes('"destroy"'));
    stream.destroy();
    const actions = text.trim().split('\n').map((line) => JSON.parse(line).Action);
    assert.deepStrictEqual(actions.filter((one) => /^(create|start|die|destroy)$/.test(one)), ['create', 'start', 'die', 'destroy']);
  },

  async function errors_have_status_and_words() {
    await assert.rejects(docker.getContainer('nobody').inspect(), (failure) =>
      failure.statusCode === 404 && failure.json.message === 'No such container: nobody');
    await assert.rejects(docker.createContainer({ Image: `${unique('absent')}:v1` }), (failure) =>
      failure.statusCode === 404 && /No such image/.test(failure.json.message));
  },

  async function mutual_tls() {
    const read = (name) => fs.readFileSync(path.join(process.env.IECHOR_TEST_CERTS, name));
    const { hostname, port } = new URL(process.env.IECHOR_TEST_TLS_HOST.replace('tcp:', 'https:'));
    const safe = { protocol: 'https', host: hostname, port, ca: read('ca.pem') };
    const known = new Docker({ ...safe, cert: read('cert.pem'), key: read('key.pem') });
    const out = new PassThrough();
    const text = all(out);
    const [result, made] = await known.run('busybox', ['echo', 'safe'], out, { Tty: true });
    await made.remove();
    assert.strictEqual(result.StatusCode, 0);
    assert.strictEqual(String(await text), 'safe\r\n');
    await assert.rejects(new Docker(safe).ping());
  },
];

run('client-node', checks).then((code) => process.exit(code));
