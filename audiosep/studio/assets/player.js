// Plays the recording and its tracks from the clock of one AudioContext, in segments, so that their length does not
// matter. What the tracks leave of the recording needs no file: it is the recording and the tracks turned over.

const SEGMENT = 4; // seconds
const AHEAD = 1.5; // seconds that are scheduled before they sound
const KEPT = 4; // segments of a track in memory
const RAMP = 0.004; // seconds, time constant of changes of gain
const SOON = 0.06; // seconds from a click to the first sample

export const MIX = "mix";
export const REST = "rest";

export class Player {
  // samples(track, start, count) -> Float32Array with interleaved channels
  constructor(samples) {
    this.samples = samples;
    this.context = null;
    this.channels = new Map(); // id -> settings and, once there is a context, nodes
    this.run = 0;
    this.playing = false;
    this.original = false;
    this.loop = null; // [first, last] sample
    this.at = 0; // sample, while nothing plays
    this.timeline = [];
  }

  open(recording) {
    this.close();
    this.rate = recording.rate;
    this.length = recording.samples;
    this.width = recording.channels > 2 ? 1 : recording.channels;
    this.add({ id: MIX, start: 0, seconds: recording.seconds, gain: 1, version: recording.version });
    this.add({ id: REST, start: 0, seconds: 0, gain: 1, version: "" });
  }

  close() {
    this.pause();
    this.context?.close();
    this.context = null;
    this.channels.clear();
    this.loop = null;
    this.original = false;
    this.at = 0;
  }

  // Adds a track, or puts the whole in the place of a preview; it joins what plays.
  add(track) {
    const before = this.channels.get(track.id);
    if (before && before.version === track.version) return;
    if (before) this.#silence(before);
    const settings = before ?? { mute: false, solo: false, decibels: 0 };
    const channel = Object.assign(settings, {
      id: track.id,
      version: track.version,
      first: Math.round(track.start * (this.rate ?? 1)),
      count: Math.round(track.seconds * (this.rate ?? 1)),
      scale: 1 / track.gain,
      segments: new Map(),
      sources: new Set(),
    });
    this.channels.set(track.id, channel);
    if (this.context) {
      if (!channel.input) this.#connect(channel);
      channel.input.gain.value = channel.scale;
      this.#apply();
      if (this.playing) this.#join(channel);
    }
  }

  remove(id) {
    const channel = this.channels.get(id);
    if (!channel) return;
    this.#silence(channel);
    for (const node of [channel.input, channel.turned, channel.out]) node?.disconnect();
    this.channels.delete(id);
    this.#apply();
  }

  set(id, settings) {
    Object.assign(this.channels.get(id), settings);
    this.#apply();
  }

  // Linear gain with which a track is heard.
  gain(id) {
    const channel = this.channels.get(id);
    const alone = [...this.channels.values()].some((one) => one.solo);
    return channel.mute || (alone && !channel.solo) ? 0 : 10 ** (channel.decibels / 20);
  }

  compare(original) {
    this.original = original;
    this.#apply();
  }

  setLoop(loop) {
    this.loop = loop && loop[1] > loop[0] ? loop.map((second) => Math.round(second * this.rate)) : null;
    if (this.playing) this.play(this.position());
  }

  // Seconds.
  position() {
    if (!this.playing || !this.timeline.length) return this.at / this.rate;
    const now = this.context.currentTime;
    let current = this.timeline[0];
    for (const one of this.timeline) if (one.when <= now) current = one;
    const passed = Math.max(0, Math.min(current.count, (now - current.when) * this.rate));
    return (current.from + passed) / this.rate;
  }

  // Whether it waits for samples to play.
  get late() {
    const last = this.timeline.at(-1);
    if (!this.playing || !this.context) return false;
    if (!last) return true;
    const over = this.context.currentTime > last.when + last.count / this.rate;
    return over && (this.loop !== null || last.from + last.count < this.length);
  }

  seek(seconds) {
    const from = Math.max(0, Math.min(this.length - 1, Math.round(seconds * this.rate)));
    this.at = from;
    if (this.playing) this.play(seconds);
  }

  async play(seconds = this.position()) {
    this.#stop();
    this.playing = true;
    const run = ++this.run;
    let from = Math.max(0, Math.min(this.length - 1, Math.round(seconds * this.rate)));
    if (this.loop && (from < this.loop[0] || from >= this.loop[1])) from = this.loop[0];
    this.at = from;
    this.#ensure();
    await this.context.resume();
    const size = SEGMENT * this.rate;
    let when = null;
    while (run === this.run) {
      const index = Math.floor(from / size);
      const limit = this.loop ? this.loop[1] : this.length;
      const end = Math.min((index + 1) * size, limit);
      const parts = await this.#segments(index);
      if (run !== this.run) return;
      const now = this.context.currentTime;
      if (when === null || when < now) when = Math.ceil((now + SOON) * this.rate) / this.rate; // begun, or held up
      const entry = { when, from, count: end - from, index };
      this.timeline = this.timeline.filter((one) => one.when + one.count / this.rate > now - 1);
      this.timeline.push(entry);
      for (const [channel, buffer] of parts) this.#schedule(channel, buffer, entry, when);
      const known = parts.map(([channel]) => channel);
      for (const channel of this.channels.values()) if (!known.includes(channel)) this.#join(channel, [entry]);
      when = (Math.round(when * this.rate) + entry.count) / this.rate;
      from = end < limit ? end : this.loop ? this.loop[0] : null;
      if (from === null) {
        await pause((when - now) * 1000 + 50);
        if (run === this.run) this.#finish();
        return;
      }
      this.#segments(Math.floor(from / size)); // fetched while this one plays
      while (run === this.run && when - this.context.currentTime > AHEAD) await pause(50);
    }
  }

  pause() {
    if (this.playing) this.at = Math.round(this.position() * this.rate);
    this.#stop();
    this.playing = false;
  }

  // Level of a track as it is heard, or of all, in dB of full scale.
  level(id = null) {
    const node = id === null ? this.master : this.channels.get(id)?.analyser;
    if (!node) return -Infinity;
    const block = new Float32Array(node.fftSize);
    node.getFloatTimeDomainData(block);
    return 10 * Math.log10(block.reduce((sum, value) => sum + value * value, 0) / block.length);
  }

  #finish() {
    this.pause();
    this.at = 0;
  }

  #stop() {
    this.run++;
    for (const channel of this.channels.values()) this.#silence(channel);
    this.timeline = [];
  }

  #silence(channel) {
    for (const source of channel.sources) source.stop();
    channel.sources.clear();
  }

  #ensure() {
    if (this.context) return;
    this.context = new AudioContext({ sampleRate: this.rate, latencyHint: "interactive" });
    const gain = () => this.context.createGain();
    [this.mixed, this.plain, this.left] = [gain(), gain(), gain()];
    this.master = this.context.createAnalyser();
    this.mixed.connect(this.master);
    this.plain.connect(this.master);
    this.master.connect(this.context.destination);
    for (const channel of this.channels.values()) this.#connect(channel);
    this.#apply(true);
  }

  #connect(channel) {
    const { context } = this;
    channel.input = context.createGain();
    channel.input.gain.value = channel.scale;
    channel.analyser = context.createAnalyser();
    channel.out = context.createGain();
    if (channel.id === MIX) {
      channel.input.connect(this.left);
      channel.input.connect(this.plain);
      return;
    }
    if (channel.id === REST) {
      this.left.connect(channel.out);
    } else {
      channel.turned = context.createGain();
      channel.turned.gain.value = -1;
      channel.input.connect(channel.turned).connect(this.left);
      channel.input.connect(channel.out);
    }
    channel.out.connect(channel.analyser);
    channel.out.connect(this.mixed);
  }

  #apply(atOnce = false) {
    if (!this.context) return;
    const set = (param, value) =>
      atOnce ? (param.value = value) : param.setTargetAtTime(value, this.context.currentTime, RAMP);
    set(this.mixed.gain, this.original ? 0 : 1);
    set(this.plain.gain, this.original ? 1 : 0);
    for (const channel of this.channels.values()) if (channel.id !== MIX) set(channel.out.gain, this.gain(channel.id));
  }

  // A track that came while others play.
  async #join(channel, entries = [...this.timeline]) {
    if (channel.id === REST) return;
    for (const entry of entries) {
      const buffer = await this.#segment(channel, entry.index).catch(() => null);
      const now = this.context.currentTime + 0.02;
      const over = entry.when + entry.count / this.rate <= now;
      if (buffer && !over && this.timeline.includes(entry)) {
        this.#schedule(channel, buffer, entry, Math.max(entry.when, now));
      }
    }
  }

  #schedule(channel, buffer, entry, when) {
    if (!buffer) return;
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(channel.input);
    const skipped = when - entry.when;
    const offset = (entry.from - entry.index * SEGMENT * this.rate) / this.rate + skipped;
    source.start(when, offset, entry.count / this.rate - skipped);
    channel.sources.add(source);
    source.onended = () => channel.sources.delete(source);
  }

  #segments(index) {
    const channels = [...this.channels.values()].filter((channel) => channel.id !== REST);
    return Promise.all(channels.map(async (channel) => {
      const buffer = await this.#segment(channel, index).catch(() => null);
      return [channel, buffer];
    }));
  }

  // The samples of a track in a segment of the recording; null where it has none.
  #segment(channel, index) {
    const known = channel.segments.get(index);
    if (known) return known;
    const first = index * SEGMENT * this.rate;
    const begin = Math.max(first, channel.first);
    const end = Math.min(first + SEGMENT * this.rate, channel.first + channel.count);
    if (end <= begin) return Promise.resolve(null);
    const { version } = channel;
    const made = this.samples(channel.id, begin - channel.first, end - begin).then((values) => {
      if (version !== channel.version) return null;
      const size = Math.min(SEGMENT * this.rate, this.length - first);
      const buffer = new AudioBuffer({ length: size, numberOfChannels: this.width, sampleRate: this.rate });
      for (let side = 0; side < this.width; side++) {
        const data = buffer.getChannelData(side);
        for (let n = 0, m = side; m < values.length; n++, m += this.width) data[begin - first + n] = values[m];
      }
      return buffer;
    });
    channel.segments.set(index, made);
    made.catch(() => channel.segments.delete(index));
    for (const old of channel.segments.keys()) {
      if (channel.segments.size > KEPT && old !== index) channel.segments.delete(old);
    }
    return made;
  }
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
