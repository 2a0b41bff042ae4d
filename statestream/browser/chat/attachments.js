/* attachments.js: files that people pick, paste or drop, as parts of a message.
 *
 * Invariants: a file is sent as it is. Only a picture that is too large is made smaller, and people are told. What the
 * server would refuse is refused here, with the reason, before anything is sent.
 */

export const MAX_CHARACTERS = 1_000_000; // of all files of a message, encoded: the server's limit for a body is 1 MiB
const MAX_FILES = 20;
const SIDES = [2048, 1600, 1200, 800]; // to which a picture is made smaller, in pixels
const QUALITY = 0.82;

/** Types that the server accepts. */
const KINDS =
  /^(?:image\/(?:png|jpeg|gif|webp|avif|heic|heif|bmp|tiff)|audio\/(?:mpeg|mp4|aac|ogg|opus|flac|wav|x-wav|webm|x-m4a)|video\/(?:mp4|mpeg|ogg|webm|quicktime)|text\/(?:plain|csv|markdown)|application\/(?:pdf|json|zip|rtf|msword|octet-stream|vnd\.openxmlformats-officedocument\.(?:wordprocessingml\.document|spreadsheetml\.sheet|presentationml\.presentation)))$/;
const AS_TEXT =
  /\.(?:py|js|mjs|ts|tsx|jsx|css|html?|svg|xml|ya?ml|toml|ini|sh|rs|go|java|c|h|cpp|hpp|rb|php|sql|log|tex|diff|patch|txt)$/i;
const SHRINKS = /^image\/(?:png|jpeg|webp|bmp|avif)$/;

export const LIMITS = `Pictures, documents, audio and video; about ${Math.floor((MAX_CHARACTERS * 3) / 4 / 1000)} kB for a message.`;

const plainName = (name) => name.replace(/[\p{C}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, "").slice(-200) || "file";

function typeOf({ name, type }) {
  const [media] = type.toLowerCase().split(";");
  if (KINDS.test(media)) return media;
  return AS_TEXT.test(name) || media.startsWith("text/")
    ? "text/plain"
    : media === ""
      ? "application/octet-stream"
      : null;
}

function urlOf(blob, mediaType) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^data:[^,]*,/, `data:${mediaType};base64,`));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** A smaller picture that fits into that many characters; null if none does. */
async function shrunk(file, room) {
  const picture = await createImageBitmap(file),
    canvas = document.createElement("canvas");
  try {
    for (const side of SIDES) {
      const scale = Math.min(1, side / Math.max(picture.width, picture.height));
      [canvas.width, canvas.height] = [
        Math.max(1, Math.round(picture.width * scale)),
        Math.max(1, Math.round(picture.height * scale)),
      ];
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
      const url = blob === null ? null : await urlOf(blob, "image/jpeg");
      if (url !== null && url.length <= room) return url;
    }
  } finally {
    picture.close();
  }
  return null;
}

/** What a message gets of these files, beside those that it has: {files, problems}, a sentence for each problem. */
export async function attached(files, already) {
  const taken = [...already],
    problems = [];
  for (const file of files) {
    const name = plainName(file.name || "picture.png"),
      room = MAX_CHARACTERS - taken.reduce((sum, { url }) => sum + url.length, 0);
    const mediaType = typeOf(file);
    if (mediaType === null) problems.push(`“${name}” cannot be sent: files of the type ${file.type} are not accepted.`);
    else if (file.size === 0) problems.push(`“${name}” is empty.`);
    else if (taken.length >= MAX_FILES) problems.push(`“${name}” is too many: a message can have ${MAX_FILES} files.`);
    else await read(file, mediaType, name, room, taken, problems);
  }
  return { files: taken.slice(already.length), problems };
}

async function read(file, mediaType, filename, room, taken, problems) {
  const tooLarge = () => problems.push(`“${filename}” is too large. ${LIMITS}`);
  try {
    if (file.size * 1.34 <= room) {
      taken.push({ mediaType, filename, url: await urlOf(file, mediaType) });
      return;
    }
    const url = SHRINKS.test(mediaType) ? await shrunk(file, room) : null;
    if (url === null) return void tooLarge();
    taken.push({ mediaType: "image/jpeg", filename: `${filename.replace(/\.\w+$/, "")}.jpg`, url });
    problems.push(`“${filename}” was made smaller, to fit into a message.`);
  } catch {
    problems.push(`“${filename}” cannot be read. Choose it again.`);
  }
}
